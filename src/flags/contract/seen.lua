-- Takes note of which flags were evaluated when, to the hour, and when clients fetched all of them at once ($bulk,
-- $definitions). Times only rise; flags that are gone are forgotten.
--
-- KEYS  1 seen  2 flags
-- ARGV  1 cursor, 0 or as answered before  2 [[KEY, SECONDS AGO], …]
-- Returns {"ok", cursor} | {"denied", command}

local HOUR, LOOKED_AT = 3600, 500

if redis.acl_check_cmd then
  for _, command in ipairs({ { 'HSET', KEYS[1], '', '' }, { 'HSETNX', KEYS[1], '', '' }, { 'HDEL', KEYS[1], '' } }) do
    if not redis.acl_check_cmd(unpack(command)) then
      return { 'denied', string.lower(command[1]) }
    end
  end
end

local now = tonumber(redis.call('TIME')[1])
redis.call('HEXISTS', KEYS[2], '')
redis.call('HSETNX', KEYS[1], '$since', string.format('%.0f', now))
redis.call('HSET', KEYS[1], '$last', string.format('%.0f', now))
for _, one in ipairs(cjson.decode(ARGV[2])) do
  local key, at = one[1], math.floor((now - one[2]) / HOUR) * HOUR
  -- Of what begins with $, the times at which clients fetched everything at once; the rest is the script's own.
  local known
  if key:sub(1, 1) == '$' then
    known = key == '$bulk' or key == '$definitions'
  else
    known = redis.call('HEXISTS', KEYS[2], key) == 1
  end
  if known and at > (tonumber(redis.call('HGET', KEYS[1], key) or '') or 0) then
    redis.call('HSET', KEYS[1], key, string.format('%.0f', at))
  end
end

-- A piece at a time: every report goes on where the last one of its reporter ended.
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', LOOKED_AT)
for i = 1, #page[2], 2 do
  local key = page[2][i]
  if key:sub(1, 1) ~= '$' and redis.call('HEXISTS', KEYS[2], key) == 0 then
    redis.call('HDEL', KEYS[1], key)
  end
end
return { 'ok', page[1] }
