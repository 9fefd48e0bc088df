-- Reads, at one moment, all that a step of a schedule is made of.
--
-- KEYS  1 flags  2 meta  3 revs  4 schedule  5 bases
-- ARGV  1 id of a schedule, or ''  2 the flag, when there is no schedule yet
-- Returns {now, entry, definition, record, base, token, evaluators, SHA-1 of the entry}; nil for what is not there

local entry, key = nil, ARGV[2]
if ARGV[1] ~= '' then
  entry = redis.call('HGET', KEYS[4], ARGV[1])
  local ok, value = pcall(cjson.decode, entry or '')
  key = ok and type(value) == 'table' and type(value.key) == 'string' and value.key or nil
end
local definition, record, base, token = nil, nil, '', ''
if key then
  definition = redis.call('HGET', KEYS[1], key)
  record = redis.call('HGET', KEYS[3], key)
  token = token_of(KEYS[1], KEYS[3], key)
  base = base_of(KEYS[5], token, key)
end
local evaluators = redis.call('HGET', KEYS[2], 'evaluators')
return { clock(), entry or false, definition or false, record or false, base, token, evaluators,
  entry and redis.sha1hex(entry) or false }
