-- The runs of a log that hold the events after a sequence, in order, up to so many events.
-- KEYS: the log's list. ARGV: the sequence, how many events at most.
-- A run begins with its epoch (16 bytes), its first and its last sequence (8 bytes each).
local log, after, most = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

-- The last run that begins at or before the first event wanted.
local low, high = 0, redis.call('LLEN', log) - 1
local place = -1
while low <= high do
  local middle = math.floor((low + high) / 2)
  local first = struct.unpack('>I8', redis.call('LINDEX', log, middle), 17)
  if first <= after + 1 then
    place, low = middle, middle + 1
  else
    high = middle - 1
  end
end
if place < 0 then
  return {}
end
local runs = {}
while true do
  local run = redis.call('LINDEX', log, place)
  if not run then
    return runs
  end
  local last = struct.unpack('>I8', run, 25)
  if last > after then
    runs[#runs + 1] = run
  end
  if last >= after + most then
    return runs
  end
  place = place + 1
end
