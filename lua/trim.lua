-- Drops the runs of a log whose events have all been pruned. Of another epoch, they are of no use
-- either.
-- KEYS: the log's list. ARGV: the last sequence that was pruned.
-- A run begins with its epoch (16 bytes), its first and its last sequence (8 bytes each).
local log, floor = KEYS[1], tonumber(ARGV[1])
while true do
  local oldest = redis.call('LINDEX', log, 0)
  if not oldest or struct.unpack('>I8', oldest, 25) > floor then
    return
  end
  redis.call('LPOP', log)
end
