-- Reads one flag, and what is needed to change it, at one revision.
--
-- KEYS  1 flags  2 meta  3 revs
-- ARGV  1 the flag's key
-- Returns {definition, record, rev, evaluators}, each of them false when it is not there

local meta = redis.call('HMGET', KEYS[2], 'rev', 'evaluators')
return { redis.call('HGET', KEYS[1], ARGV[1]), redis.call('HGET', KEYS[3], ARGV[1]), meta[1], meta[2] }
