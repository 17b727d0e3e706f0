-- Make the store if it is not there; return its birth, the version of what it keeps, and the commands that
-- the user may not run on it. KEYS[1] is the hash of its clock, ARGV[1] a birth in case it needs one ('': only
-- look), ARGV[2] our version.
local hash, none = KEYS[1], KEYS[1] .. ':none'
-- The first id is the lowest number of 19 digits: ids are of one length even if the clock is far behind.
if ARGV[1] ~= '' and redis.call('EXISTS', hash) == 0 then
  redis.call('HSET', hash, 'birth', ARGV[1], 'version', ARGV[2], 's', 999999999, 'n', 999999999, 'v', 0)
end
local found, denied = redis.call('HMGET', hash, 'birth', 'version'), {}
if found[2] ~= ARGV[2] then return { found[1], found[2], denied } end

-- A script that is refused a command in its midst has done a half by then. So each is tried in a way that
-- changes nothing, be it allowed or not: there is such a hash, and no key has the other name.
for _, command in ipairs({
  { 'TIME' }, { 'EXISTS', none }, { 'UNLINK', none }, { 'PUBLISH', hash .. ':bell:', '' },
  { 'HGET', none, '' }, { 'HMGET', none, '' }, { 'HGETALL', none }, { 'HEXISTS', none, '' },
  { 'HSET', hash, 'birth', '', '' }, { 'HSETNX', hash, 'birth', '' }, { 'HDEL', none, '' },
  { 'XADD', none, 'NOMKSTREAM', '*', '', '' }, { 'XDEL', none, '0-1' }, { 'XLEN', none },
  { 'XRANGE', none, '-', '+' }, { 'ZADD', none, 'XX', 0, '' }, { 'ZREM', none, '' }, { 'ZPOPMIN', none },
  { 'ZRANGE', none, 0, 0 }, { 'ZRANGEBYSCORE', none, 0, 0 }, { 'ZRANGEBYLEX', none, '-', '+' },
  { 'ZSCORE', none, '' }, { 'ZMSCORE', none, '' }, { 'ZCOUNT', none, 0, 0 },
  { 'SADD', hash, '' }, { 'SREM', none, '' }, { 'SPOP', none, 1 }, { 'SCARD', none },
  { 'SISMEMBER', none, '' }, { 'SMISMEMBER', none, '' },
}) do
  local answer = redis.pcall(unpack(command))
  local err = type(answer) == 'table' and answer.err or ''
  -- Servers before 7 speak of the user who executes the script.
  if err:find('ACL failure', 1, true) or err:find('executing the script', 1, true) then
    denied[#denied + 1] = command[1]
  end
end
return { found[1], found[2], denied }
