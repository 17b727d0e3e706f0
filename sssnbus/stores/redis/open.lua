-- Make the store if it is not there; return its birth, and the version of what it keeps.
-- KEYS[1] is the hash of its clock, ARGV[1] a birth in case it needs one ('': only look), ARGV[2] our version.
-- The first id is the lowest number of 19 digits: ids are of one length even if the clock is far behind.
if ARGV[1] ~= '' and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'birth', ARGV[1], 'version', ARGV[2], 's', 999999999, 'n', 999999999, 'v', 0)
end
return redis.call('HMGET', KEYS[1], 'birth', 'version')
