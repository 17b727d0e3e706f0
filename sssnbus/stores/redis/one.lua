-- One message to the end of one log: what is done most, and nothing else. It does what append.lua and
-- commit.lua do for a draft without id, dedupe key, ordering key, priority, delay and limit, with as few
-- calls as that takes, and without JSON.
-- ARGV: owner, number of the request, birth, wall time ('': the server's), log, meta, headers, body.
local call, format, sub = redis.call, string.format, string.sub
local K, P = KEYS[1], KEYS[1] .. ':'
local owner, name, m, h, b = ARGV[1], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local clock = call('HMGET', K, 'birth', 's', 'n', 'v', 'ears', 'a:' .. owner)
if clock[1] ~= ARGV[3] then return 'REPLACED' end
local kept, number = clock[6], tonumber(ARGV[2])
if not kept then return 'GONE' end
local _, finish, last = kept:find('^(%d+)\n')
last = tonumber(last)
if last > number or (last == number and finish == #kept) then return 'STALE' end
if last == number then return sub(kept, finish + 1) .. '\n' end

local row = call('HMGET', P .. 'l:' .. name, 'kind', 'last', 'size', 'given')
if not row[1] then return cjson.encode({ { 'UNKNOWN', name } }) .. '\n' end

-- The next id; base.lua and request.lua say why it is made like this.
local s, n
if ARGV[4] == '' then
  local time = call('TIME')
  s, n = tonumber(time[1]), tonumber(time[2]) * 1000
else
  local wall = tonumber(ARGV[4])
  s = math.floor(wall)
  n = math.floor((wall - s) * 1000000000)
end
n = n - ((s % 4096) * 2560 + n) % 4096
if n < 0 then s, n = s - 1, n + 1000000000 end
local its, itn = tonumber(clock[2]), tonumber(clock[3])
if s < its or (s == its and n <= itn) then s, n = its, itn + 1 end
local id
repeat
  if n >= 1000000000 then s, n = s + 1, 0 end
  id = format('%010d%09d', s, n)
  n = n + 1
until row[4] ~= '1' or call('HEXISTS', P .. 'i:' .. name, id) == 0
n = n - 1

local sequence = format('%d', row[2] + 1)
local added =
  redis.pcall('XADD', P .. 'm:' .. name, sequence .. '-0', 'i', id, 't', id, 'm', m, 'h', h, 'b', b)
if type(added) == 'table' and added.err then return cjson.encode({ { 'ERROR', added.err } }) .. '\n' end
if row[1] == 'work queue' then call('ZADD', P .. 'r:' .. name, 0, format('%016d', row[2] + 1)) end
call('HSET', P .. 'l:' .. name, 'last', sequence, 'size', format('%d', row[3] + #h + #b))

local fields = { 's', s, 'n', n, 'v', clock[4] + 1 }
local ears = clock[5]
if ears and #ears > 1 then
  local told
  for ear in ears:gmatch('%S+') do
    if ear ~= owner then
      told = told or (#h + #b > 16384 and '!')
        or format('[%s,[%s,"%s",%d,%d,%d]]\n', cjson.encode(name), sequence, id, #m, #h, #b) .. m .. h .. b
      if redis.pcall('PUBLISH', P .. 'bell:' .. ear, told) == 0 then
        local first, behind = ears:find(' ' .. ear .. ' ', 1, true)
        ears = sub(ears, 1, first) .. sub(ears, behind + 1)
      end
    end
  end
  if ears ~= clock[5] then fields[7], fields[8] = 'ears', ears end
end
local json = format('[[0,"%s",%s,0]]', id, sequence)
-- If the server has no room for this, then nothing was written before, and nothing is to be kept.
redis.pcall('HSET', K, 'a:' .. owner, ARGV[2] .. '\n' .. json, unpack(fields))
return json .. '\n'
