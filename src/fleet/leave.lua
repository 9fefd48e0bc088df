-- Takes an instance out of the fleet: its own goodbye, or an operator's word that a suspect is gone.
--
-- KEYS  1 instances  2 alive  3 what notes that this one has left  4.. failing sets
-- ARGV  1 id  2 boot of whoever says goodbye; '' for an operator, who may remove suspects only  3 ms to note it for
-- Returns {"ok"} | {"absent"} | {"live", ms until its heartbeat expires}

local id, boot = ARGV[1], ARGV[2]
local stored = redis.call('HGET', KEYS[1], id)
if not stored or (boot ~= '' and not stored:find('"boot":"' .. boot .. '"', 1, true)) then
  return { 'absent' }
end
if boot == '' then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local good = tonumber(redis.call('ZSCORE', KEYS[2], id) or '0') or 0
  if good > now then
    return { 'live', string.format('%.0f', good - now) }
  end
end
redis.call('HDEL', KEYS[1], id)
redis.call('ZREM', KEYS[2], id)
for i = 4, #KEYS do
  redis.call('ZREM', KEYS[i], id)
end
redis.call('SET', KEYS[3], '1', 'PX', ARGV[3])
return { 'ok' }
