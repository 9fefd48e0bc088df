-- Reads a page of the instances, with when each heartbeat expires.
--
-- KEYS  1 instances  2 alive
-- ARGV  1 cursor, 0 or as answered before
-- Returns {cursor, now, id, what it says, ms since the epoch when it expires or '', …}; an id may come twice

local time = redis.call('TIME')
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', 200)
local answer = { page[1], string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)) }
for i = 1, #page[2], 2 do
  answer[#answer + 1] = page[2][i]
  answer[#answer + 1] = page[2][i + 1]
  answer[#answer + 1] = redis.call('ZSCORE', KEYS[2], page[2][i]) or ''
end
return answer
