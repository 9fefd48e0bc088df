-- Does one step of a schedule: writes the flag, and that it is done, or neither. So a step is done once, whoever tries
-- it, how often, and wherever they are killed.
--
-- KEYS  1 flags  2 meta  3 revs  4 log  5 schedule  6 due  7 bases
-- ARGV  1 channel of the events
--       2 {"id":ID, "expect":TEXT, "entry":TEXT, "due":MS?, "at":MS, "key":KEY, "base":TEXT, "token":TEXT,
--          "set":JSON TEXT, "incarnation":CANDIDATE, "actor":TEXT, "note":TEXT}
-- "expect" and "entry" are the schedule before and after, "at" is when the step is due, "due" when the next one is,
-- "base" what the schedule was made for, "token" what "set" was made of.
-- Returns {"ok", rev, prev, at} | {"early", now} | {"moved"} | {"changed"} | {"raced"} | {"uncreated"} | {"bad", text}
--         | {"denied", command}

local MAX_EVENT, LOG_LENGTH = 65536, 10000

local request = cjson.decode(ARGV[2])
local now, key = clock(), request.key
local refused = denied({
  { 'HSET', KEYS[1], '', '' }, { 'HSET', KEYS[3], '', '' }, { 'HINCRBY', KEYS[2], '', '1' },
  { 'HSETNX', KEYS[2], '', '' }, { 'XADD', KEYS[4], '*', '', '' }, { 'HSET', KEYS[5], '', '' },
  { 'ZADD', KEYS[6], '1', '' }, { 'ZREM', KEYS[6], '' }, { 'HSET', KEYS[7], '', '' }, { publish, ARGV[1], '' },
})
if refused then
  return { 'denied', refused }
end
-- A key of a wrong type would stop it in the middle too.
redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)
redis.call('ZSCORE', KEYS[6], '')
if redis.call('HGET', KEYS[5], request.id) ~= request.expect then
  return { 'moved' }
end
if tonumber(now) < tonumber(request.at) then
  return { 'early', now }
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  return { 'uncreated' }
end
local text = redis.call('HGET', KEYS[2], 'rev')
local prev = tonumber(text or '0')
if not prev or prev < 0 or prev ~= math.floor(prev) then
  return { 'bad', 'the scope\'s rev is not a whole number' }
end
local token = token_of(KEYS[1], KEYS[3], key)
if base_of(KEYS[7], token, key) ~= request.base then
  return { 'changed' }
end
if token ~= request.token then
  return { 'raced' }
end
local ok, value = pcall(cjson.decode, request.set)
if not ok or type(value) ~= 'table' or not request.set:match('^%s*{') then
  return { 'bad', key .. ' is not a JSON object' }
end

local rev = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'rev', 1))
redis.call('HSETNX', KEYS[2], 'incarnation', request.incarnation)
local before = redis.call('HGET', KEYS[1], key) or ''
redis.call('HSET', KEYS[1], key, request.set)
redis.call('HSET', KEYS[3], key, rev .. ' ' .. now .. ' ' .. request.actor)
redis.call('HSET', KEYS[7], key, token_of(KEYS[1], KEYS[3], key) .. ' ' .. request.base)
-- As in write.lua: the log must not lose what one batch wrote.
local length = string.format('%.0f', math.max(LOG_LENGTH, 2 * redis.call('HLEN', KEYS[1])))
redis.call('XADD', KEYS[4], 'MAXLEN', '~', length, '*', 'rev', rev, 'at', now, 'actor', request.actor,
  'op', 'set', 'key', key, 'before', before, 'after', request.set, 'note', request.note, 'of', '1')
redis.call('HSET', KEYS[5], request.id, request.entry)
plan(KEYS[6], request.id, request.due)

local head = '{"rev":' .. rev .. ',"prev":' .. string.format('%.0f', prev) .. ',"incarnation":'
  .. cjson.encode(redis.call('HGET', KEYS[2], 'incarnation')) .. ',"at":' .. now
local body = ',"set":{' .. cjson.encode(key) .. ':' .. request.set .. '},"del":[]}'
if #head + #body > MAX_EVENT then
  body = ',"truncated":true}'
end
redis.call(publish, ARGV[1], head .. body)
return { 'ok', rev, string.format('%.0f', prev), now }
