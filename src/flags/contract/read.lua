-- Reads a scope at one revision.
--
-- KEYS  1 flags  2 meta
-- ARGV  1 the most flags  2 the most bytes that a reader takes
--       3 the most flags to answer at once
-- Returns {"ok", rev, incarnation, evaluators, metadata, {key, definition, …}} | {"absent", flags} | {"large", text}
--         | {"many", flags, rev, incarnation} | {"denied", command}

if redis.acl_check_cmd then
  for _, command in ipairs({ { 'EXISTS', KEYS[2] }, { 'HLEN', KEYS[1] }, { 'HMGET', KEYS[2], '' }, { 'HGETALL', KEYS[1] } }) do
    if not redis.acl_check_cmd(unpack(command)) then
      return { 'denied', string.lower(command[1]) }
    end
  end
end

if redis.call('EXISTS', KEYS[2]) == 0 then
  return { 'absent', redis.call('HLEN', KEYS[1]) }
end
local count = redis.call('HLEN', KEYS[1])
if count > tonumber(ARGV[1]) then
  return { 'large', count .. ' flags; at most ' .. ARGV[1] .. ' are read' }
end
local meta = redis.call('HMGET', KEYS[2], 'rev', 'incarnation', 'evaluators', 'metadata')
if count > tonumber(ARGV[3]) then
  return { 'many', count, meta[1], meta[2] }
end
local flags = redis.call('HGETALL', KEYS[1])
local bytes = #(meta[3] or '') + #(meta[4] or '')
for _, text in ipairs(flags) do
  bytes = bytes + #text
end
if bytes > tonumber(ARGV[2]) then
  return { 'large', bytes .. ' bytes; at most ' .. ARGV[2] .. ' are read' }
end
return { 'ok', meta[1], meta[2], meta[3], meta[4], flags }
