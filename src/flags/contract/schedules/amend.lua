-- Makes, changes or removes a schedule by compare-and-set on its whole text.
--
-- KEYS  1 schedule  2 due  3 flags  4 revs  5 bases
-- ARGV  1 channel of the schedules
--       2 {"id":ID, "expect":TEXT?, "digest":SHA1?, "entry":TEXT?, "due":MS|"inf"?, "base":TEXT?, "key":KEY?, "alone":BOOL?, "most":N}
-- Without "expect" it must not be there; with "digest" its text must have that SHA-1 instead, and stays unless it is
-- removed by having no "due"; without "entry" it is removed. With "base" the flag "key" must be in that
-- state. With "alone" no other rollout of the flag may be on its way.
-- Returns {"denied", command} | {"ok"} | {"moved"} | {"changed"} | {"other", id} | {"full", count}

local request = cjson.decode(ARGV[2])
local refused = denied({
  { 'HSET', KEYS[1], '', '' }, { 'HDEL', KEYS[1], '' }, { 'ZADD', KEYS[2], '1', '' }, { 'ZREM', KEYS[2], '' },
  { publish, ARGV[1], '' },
})
if refused then
  return { 'denied', refused }
end
-- A key of a wrong type would stop it in the middle too.
redis.call('ZSCORE', KEYS[2], '')
local there = redis.call('HGET', KEYS[1], request.id)
if request.digest then
  if not there or redis.sha1hex(there) ~= request.digest then
    return { 'moved' }
  end
  if not request.due then
    redis.call('HDEL', KEYS[1], request.id)
  end
  plan(KEYS[2], request.id, request.due)
  return { 'ok' }
end
if (there or nil) ~= request.expect then
  return { 'moved' }
end
if request.base and base_of(KEYS[5], token_of(KEYS[3], KEYS[4], request.key), request.key) ~= request.base then
  return { 'changed' }
end

if not request.expect then
  local count = redis.call('HLEN', KEYS[1])
  -- Nobody who keeps to the bound gets here; reading that many would hold Redis up.
  if count > 2 * request.most then
    return { 'full', string.format('%.0f', count) }
  end
  local over = {}
  local entries = redis.call('HGETALL', KEYS[1])
  for i = 1, #entries, 2 do
    local ok, entry = pcall(cjson.decode, entries[i + 1])
    if not ok or type(entry) ~= 'table' then
      entry = {}
    end
    local state = entry.state
    if state == 'done' or state == 'cancelled' or state == 'failed' then
      over[#over + 1] = { id = entries[i], at = tonumber(entry.changed_at) or 0 }
    elseif request.alone and entry.key == request.key and type(entry.plan) == 'table' and entry.plan.rollout then
      return { 'other', entries[i] }
    end
  end
  -- Room is made of those that are over, the oldest first.
  table.sort(over, function(a, b) return a.at < b.at end)
  local surplus = count + 1 - request.most
  if surplus > #over then
    return { 'full', string.format('%.0f', count) }
  end
  for i = 1, surplus do
    redis.call('HDEL', KEYS[1], over[i].id)
  end
end

if request.entry then
  redis.call('HSET', KEYS[1], request.id, request.entry)
else
  redis.call('HDEL', KEYS[1], request.id)
end
plan(KEYS[2], request.id, request.due)
redis.call(publish, ARGV[1], request.id)
return { 'ok' }
