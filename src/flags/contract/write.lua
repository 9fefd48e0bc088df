-- Writes flags (or a scope's evaluators and metadata) by compare-and-set: all of the operations or none.
--
-- KEYS  1 flags  2 meta  3 revs  4 log  5 written (may be left out, with ARGV 3)
-- ARGV  1 channel of the events
--       2 {"expect":REV?, "create":BOOL?, "incarnation":CANDIDATE, "actor":TEXT, "note":TEXT, "ops":[OP…]}
--         OP: {"in":"flags"|"meta", "key":KEY, "set":JSON TEXT?, "expect":REV?}; without "set" it deletes
--       3 a name of this write, random
-- With "create":false a scope that is not there is not made.
-- Returns {"ok", rev, prev, at} | {"uncreated"} | {"lost", key, rev, actor, at} | {"absent", key} | {"bad", text}
--         | {"denied", command}
--
-- A write that is sent again under the same ARGV[3], because its answer was lost, is made once and answered twice.
--
-- A lost race names the revision in place and who wrote it when; rev 0 is "not there". Definitions are passed on as
-- the text they came as, never encoded anew: cjson would turn 1.0 into 1 and {} into [].

local MAX_EVENT, LOG_LENGTH, SEARCHED = 65536, 10000, 1000
local REMEMBERED = 512 -- names of writes
local HASH = { flags = KEYS[1], meta = KEYS[2] }

local request = cjson.decode(ARGV[2])
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))

if KEYS[5] then
  local made = redis.call('ZSCORE', KEYS[5], ARGV[3])
  local there = redis.call('HGET', KEYS[2], 'rev')
  if made and there then
    -- Written as it is, so that a WAIT after this answer waits for all that was written before it.
    redis.call('HSET', KEYS[2], 'rev', there)
    return { 'ok', made, string.format('%.0f', tonumber(made) - 1), now }
  end
end

-- A cluster of Redis 7 or later tells its shard; every other Redis tells everybody.
local publish = 'PUBLISH'
if (redis.REDIS_VERSION_NUM or 0) >= 0x070000 and type(redis.pcall('CLUSTER', 'KEYSLOT', KEYS[1])) == 'number' then
  publish = 'SPUBLISH'
end

-- A command refused in the middle would leave half a change: asked before, where the server can tell.
if redis.acl_check_cmd then
  local needed = {
    { 'HSET', KEYS[1], '', '' }, { 'HSET', KEYS[3], '', '' }, { 'HDEL', KEYS[1], '' }, { 'HDEL', KEYS[3], '' },
    { 'HINCRBY', KEYS[2], '', '1' }, { 'HSETNX', KEYS[2], '', '' }, { 'XADD', KEYS[4], '*', '', '' },
    { publish, ARGV[1], '' },
  }
  if KEYS[5] then
    needed[#needed + 1] = { 'ZADD', KEYS[5], '1', '' }
    needed[#needed + 1] = { 'ZREMRANGEBYRANK', KEYS[5], '0', '0' }
  end
  for _, command in ipairs(needed) do
    if not redis.acl_check_cmd(unpack(command)) then
      return { 'denied', string.lower(command[1]) }
    end
  end
end

-- Keys of a wrong type would do the same.
redis.call('HEXISTS', KEYS[1], '')
redis.call('HEXISTS', KEYS[3], '')
redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)

local text = redis.call('HGET', KEYS[2], 'rev')
local prev = tonumber(text or '0')
if not prev or prev < 0 or prev ~= math.floor(prev) then
  return { 'bad', 'the scope\'s rev is not a whole number' }
end

-- In revs and log, evaluators and metadata are $evaluators and $metadata.
local function name(op)
  return op['in'] == 'meta' and '$' .. op.key or op.key
end

-- The last write found in the log, of one key or of any: actor, at.
local function last(key)
  for _, entry in ipairs(redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', SEARCHED)) do
    local fields = {}
    for i = 1, #entry[2], 2 do
      fields[entry[2][i]] = entry[2][i + 1]
    end
    if not key or fields.key == key then
      return fields.actor or '', fields.at or ''
    end
  end
  return '', ''
end

if request.create == false and redis.call('EXISTS', KEYS[2]) == 0 then
  return { 'uncreated' }
end

if request.expect and request.expect ~= prev then
  local actor, at = last(nil)
  return { 'lost', '', string.format('%.0f', prev), actor, at }
end

for _, op in ipairs(request.ops) do
  local hash = HASH[op['in']]
  if not hash or (op['in'] == 'meta' and op.key ~= 'evaluators' and op.key ~= 'metadata') then
    return { 'bad', 'no such place to write: ' .. tostring(op['in']) .. ' ' .. tostring(op.key) }
  end
  local there = redis.call('HEXISTS', hash, op.key) == 1
  if op.expect then
    -- What is there without a record was written by somebody who keeps none: it counts as written just now, so that
    -- a race is lost too often rather than an edit.
    local rev, actor, at = 0, nil, nil
    if there then
      local record = redis.call('HGET', KEYS[3], name(op)) or ''
      local recorded, when, who = record:match('^(%d+) (%d+) (.*)$')
      rev, at, actor = tonumber(recorded) or prev, when or '', who or ''
    end
    if rev ~= op.expect then
      if not actor then
        actor, at = last(name(op))
      end
      return { 'lost', name(op), string.format('%.0f', rev), actor, at }
    end
  end
  if op.set then
    local ok, value = pcall(cjson.decode, op.set)
    if not ok or type(value) ~= 'table' or not op.set:match('^%s*{') then
      return { 'bad', name(op) .. ' is not a JSON object' }
    end
  elseif not there then
    return { 'absent', name(op) }
  end
end

local rev = string.format('%.0f', redis.call('HINCRBY', KEYS[2], 'rev', 1))
redis.call('HSETNX', KEYS[2], 'incarnation', request.incarnation)

-- A change of every flag of a large scope must not push itself out of the log with the next one.
local length = string.format('%.0f', math.max(LOG_LENGTH, 2 * redis.call('HLEN', KEYS[1])))
local set, del, told = {}, {}, true
for _, op in ipairs(request.ops) do
  local hash, key = HASH[op['in']], name(op)
  local before = redis.call('HGET', hash, op.key) or ''
  if op.set then
    redis.call('HSET', hash, op.key, op.set)
    redis.call('HSET', KEYS[3], key, rev .. ' ' .. now .. ' ' .. request.actor)
    set[#set + 1] = cjson.encode(op.key) .. ':' .. op.set
  else
    redis.call('HDEL', hash, op.key)
    redis.call('HDEL', KEYS[3], key)
    del[#del + 1] = cjson.encode(op.key)
  end
  -- Evaluators take part in every flag's rules: readers start from a snapshot.
  told = told and op['in'] == 'flags'
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', length, '*', 'rev', rev, 'at', now, 'actor', request.actor,
    'op', op.set and 'set' or 'del', 'key', key, 'before', before, 'after', op.set or '', 'note', request.note, 'of', #request.ops)
end

local head = '{"rev":' .. rev .. ',"prev":' .. string.format('%.0f', prev) .. ',"incarnation":'
  .. cjson.encode(redis.call('HGET', KEYS[2], 'incarnation')) .. ',"at":' .. now
local body = ',"set":{' .. table.concat(set, ',') .. '},"del":[' .. table.concat(del, ',') .. ']}'
if not told or #head + #body > MAX_EVENT then
  body = ',"truncated":true}'
end
redis.call(publish, ARGV[1], head .. body)
if KEYS[5] then
  redis.call('ZADD', KEYS[5], rev, ARGV[3])
  redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -REMEMBERED - 1)
end
return { 'ok', rev, string.format('%.0f', prev), now }
