-- What is due first, and who executes. Takes the lease when it is free, or prolongs it, unless there is nothing to do.
--
-- KEYS  1 due  2 lease
-- ARGV  1 name of whoever asks  2 milliseconds to hold the lease; 0 does not take it
-- Returns {"denied", command} | {now, id, due, holder, milliseconds left}; id is '' when nothing is planned, due 'inf' while all is paused

local now = clock()
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if first[1] and not first[1]:match('^[%w_-]+$') and not denied({ { 'ZREM', KEYS[1], '' } }) then
  -- Nobody makes such an id; in front it would keep all others from their turn.
  redis.call('ZREM', KEYS[1], first[1])
  return { now, 'none-such', now, ARGV[1], '0' }
end
if not first[1] then
  return { now, '', '', '', '0' }
end
local holder = redis.call('GET', KEYS[2])
if ARGV[2] ~= '0' and (not holder or holder == ARGV[1]) then
  -- Whoever holds it does steps: of no use to somebody who may not.
  local stem = KEYS[1]:sub(1, -13)
  local refused = denied({
    { 'SET', KEYS[2], '', 'PX', '1' }, { 'HSET', stem .. 'flags', '', '' }, { 'HSET', stem .. 'schedule', '', '' },
  })
  if refused then
    return { 'denied', refused }
  end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  holder = ARGV[1]
end
return { now, first[1], first[2], holder or '', string.format('%.0f', math.max(redis.call('PTTL', KEYS[2]), 0)) }
