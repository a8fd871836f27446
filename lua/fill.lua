-- Adds a run of committed events to a log, unless that would leave a hole: then the newer of the
-- two stays. So it is when the run is of another epoch: what the log holds gives way.
-- KEYS: the log's list. ARGV: the run, how many of the newest events to keep, seconds to keep them.
-- A run begins with its epoch (16 bytes), its first and its last sequence (8 bytes each).
local log, run, keep, seconds = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3]
local epoch = string.sub(run, 1, 16)
local first, last = struct.unpack('>I8I8', run, 17)

local newest = redis.call('LINDEX', log, -1)
local top = newest and struct.unpack('>I8', newest, 25) or last
if newest and (string.sub(newest, 1, 16) ~= epoch or first > top + 1) then
  redis.call('DEL', log)
end
local oldest = redis.call('LINDEX', log, 0)
local bottom = oldest and struct.unpack('>I8', oldest, 17)
if not oldest or first <= bottom and last > top then
  redis.call('DEL', log)
  redis.call('RPUSH', log, run)
  top = last
elseif last > top then
  redis.call('RPUSH', log, run)
  top = last
elseif first >= bottom or last < bottom - 1 or last <= top - keep then
  return 0 -- all of it is there, or it is too old to be kept
else
  redis.call('LPUSH', log, run)
end

-- What no longer counts among the newest.
while true do
  local end_of_oldest = struct.unpack('>I8', redis.call('LINDEX', log, 0), 25)
  if end_of_oldest > top - keep then
    break
  end
  redis.call('LPOP', log)
end
redis.call('EXPIRE', log, seconds)
return 1
