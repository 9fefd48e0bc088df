-- Shared by the scripts of schedules. The state of a flag is told by a token: the revision that last wrote it and the
-- SHA-1 of its definition; '' when there is no such flag. What a schedule writes carries on the token that the flag had
-- before (its base); what anybody else writes is a token of its own. So a base that is still the same says that nobody
-- but schedules wrote the flag.

local function token_of(flags, revs, key)
  local text = redis.call('HGET', flags, key)
  if not text then
    return ''
  end
  local record = redis.call('HGET', revs, key) or ''
  return (record:match('^(%d+) ') or '-') .. ':' .. redis.sha1hex(text)
end

local function base_of(bases, token, key)
  local at, from = (redis.call('HGET', bases, key) or ''):match('^(%S*) (%S*)$')
  if at and at == token then
    return from
  end
  return token
end

-- Milliseconds since the epoch, as text.
local function clock()
  local time = redis.call('TIME')
  return string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
end

-- When a schedule is next due: a moment, 'inf' while it is paused, nothing when it is over.
local function plan(due, id, at)
  if at then
    redis.call('ZADD', due, at, id)
  else
    redis.call('ZREM', due, id)
  end
end

-- A cluster of Redis 7 or later tells its shard; every other Redis tells everybody.
local publish = 'PUBLISH'
if (redis.REDIS_VERSION_NUM or 0) >= 0x070000 and type(redis.pcall('CLUSTER', 'KEYSLOT', KEYS[1])) == 'number' then
  publish = 'SPUBLISH'
end

-- A command refused in the middle would leave half of what a script does: asked before, where the server can tell.
-- The name of the first that the user may not use.
local function denied(commands)
  if redis.acl_check_cmd then
    for _, command in ipairs(commands) do
      if not redis.acl_check_cmd(unpack(command)) then
        return string.lower(command[1])
      end
    end
  end
  return nil
end

