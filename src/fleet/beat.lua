-- One heartbeat of an instance: that it lives, what it says of itself if that changed, which shared checks fail here, and
-- in return how far each of them fails elsewhere. Times are by the clock of Redis alone.
--
-- KEYS  1 instances  2 alive  3 young  4.. failing sets, of each check named in ARGV from 8 on
-- ARGV  1 id  2 boot  3 joined: ms since the epoch, '' the first time  4 ms that the heartbeat is good for
--       5 what it says of itself, a JSON object; '' when it is as it was  6 ms for which an instance that went silent still
--       counts among the whole  7 the most instances  8.. for each failing set 1 (it fails here) or 0 (it does no longer)
-- Returns {"ok", joined, live, young 0|1, whole, count of KEYS[4], …} | {"again"} (send all of it) | {"replaced"}
--         | {"full", count} | {"denied", command}

local id, boot, good, body = ARGV[1], ARGV[2], tonumber(ARGV[4]), ARGV[5]
if redis.acl_check_cmd then
  for _, command in ipairs({ { 'HSET', KEYS[1], '', '' }, { 'ZADD', KEYS[2], '1', '' }, { 'SET', KEYS[3], '', 'PX', '1' } }) do
    if not redis.acl_check_cmd(unpack(command)) then
      return { 'denied', string.lower(command[1]) }
    end
  end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ms = function(number) return string.format('%.0f', number) end

local joined = ARGV[3] ~= '' and ARGV[3] or ms(now)
local stored = redis.call('HGET', KEYS[1], id)
if stored and not stored:find('"boot":"' .. boot .. '"', 1, true) then
  -- Another process of the same place. The later one is in the right: a container that was started again.
  local ok, other = pcall(cjson.decode, stored)
  local since = ok and type(other) == 'table' and tonumber(other.joined) or 0
  if ARGV[3] ~= '' and since >= tonumber(joined) then
    return { 'replaced' }
  end
  stored = false
elseif not stored and body ~= '' then
  local count = redis.call('HLEN', KEYS[1])
  if count >= tonumber(ARGV[7]) then
    return { 'full', ms(count) }
  end
end
if body ~= '' then
  redis.call('HSET', KEYS[1], id, '{"boot":"' .. boot .. '","joined":' .. joined .. ',' .. body:sub(2))
elseif not stored then
  return { 'again' }
end

local live = redis.call('ZCOUNT', KEYS[2], '(' .. ms(now), '+inf')
if live == 0 and redis.call('ZCOUNT', KEYS[2], '(' .. ms(now - tonumber(ARGV[6]) + good * 2), '+inf') == 0 then
  -- The first of the fleet, or the first after nobody was heard of for minutes: whoever comes next would be a small part
  -- taken for the whole. By the end of this everybody has had the time to come. After a Redis that stood still for less,
  -- those who were there before are still counted, and make the whole.
  redis.call('SET', KEYS[3], '1', 'PX', ms(good * 2))
end
redis.call('ZADD', KEYS[2], ms(now + good), id)
if body ~= '' then
  -- One that was not heard of before, or not for a while, is live from now on; later heartbeats have found it there.
  live = redis.call('ZCOUNT', KEYS[2], '(' .. ms(now), '+inf')
end

local answer = { 'ok', joined, ms(live), '0', '0' }
for i = 4, #KEYS do
  if ARGV[i + 4] == '1' then
    if answer[5] == '0' then
      answer[4] = ms(redis.call('EXISTS', KEYS[3]))
      answer[5] = ms(redis.call('ZCOUNT', KEYS[2], '(' .. ms(now - tonumber(ARGV[6])), '+inf'))
    end
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', ms(now))
    redis.call('ZADD', KEYS[i], ms(now + good), id)
    redis.call('PEXPIRE', KEYS[i], ms(good * 2))
    answer[#answer + 1] = ms(redis.call('ZCARD', KEYS[i]))
  else
    redis.call('ZREM', KEYS[i], id)
    answer[#answer + 1] = '0'
  end
end
return answer
