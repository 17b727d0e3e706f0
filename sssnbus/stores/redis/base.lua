-- What every script begins with: its arguments, the time, logs and their messages.
--
-- KEYS[1] is the hash of the store's clock; every other key is its name, a colon and more, so that all
-- are in one slot of a cluster. ARGV[1] is JSON: owner, number of the request, birth of the store, wall
-- time and elapsed time (null: the server's), operations. ARGV[2] holds the bytes of the operations one
-- behind the other, for JSON cannot carry them. The answer is JSON, a newline, and bytes alike.
local call, format, sub = redis.call, string.format, string.sub
local P = KEYS[1] .. ':'
local STEP = 1000
local DEAD = '!dead'
local WHOLE_SECOND = 1000000000

-- What a script defines is defined anew with each call. Functions in a table are quick to define; as locals
-- that know each other they cost more than what most requests do.
local L, S = {}, {}

local head = cjson.decode(ARGV[1])
local blob, blob_at = ARGV[2], 1
local out = {}

local function take(size)
  local part = sub(blob, blob_at, blob_at + size - 1)
  blob_at = blob_at + size
  return part
end

local function opt(value)
  if value == cjson.null then return nil end
  return value
end

local server = call('TIME')
local server_now = tonumber(server[1]) + tonumber(server[2]) / 1e6
local wall, elapsed = opt(head[4]) or server_now, opt(head[5]) or server_now

-- Ids have 19 digits and Lua's numbers 15, so seconds and nanoseconds are counted apart. The low 12 bits
-- of the whole number are cleared: they count.
function L.stamp_of(seconds)
  local s = math.floor(seconds)
  local n = math.floor((seconds - s) * WHOLE_SECOND)
  n = n - ((s % 4096) * (WHOLE_SECOND % 4096) + n) % 4096
  if n < 0 then s, n = s - 1, n + WHOLE_SECOND end
  return s, n
end

function L.text_of(s, n) return format('%010d%09d', s, n) end

-- Lua compares texts by the locale of the server; ids are compared byte by byte.
function L.below(a, b)
  if a == b then return false end
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

function L.place_of(sequence) return format('%016d', sequence) end

-- What the keys of a log begin with.
L.PARTS = { 'l:', 'm:', 'i:', 'u:', 'w:', 'r:', 'd:', 'z:', 'e:', 'f:', 'k:', 'j:' }

-- All keys of a queue share one sorted set; a length before a key keeps keys apart.
function L.line_of(key) return format('%08d', #key) .. key end

-- What is to be known of a message that is more than ready for the first time.
function L.job_at(log, place)
  local packed = call('HGET', log.j, place)
  if packed then return cmsgpack.unpack(packed) end
  return { p = 0, a = 0, s = 0 }
end

local logs = {}

function L.log_of(name)
  local log = logs[name]
  if log == nil then
    local row = call('HMGET', P .. 'l:' .. name, 'kind', 'last', 'floor', 'size', 'given')
    if not row[1] then return nil end
    log = {
      name = name, kind = row[1], queue = row[1] == 'work queue',
      last = tonumber(row[2]), floor = tonumber(row[3]), size = tonumber(row[4]), given = row[5] == '1',
      m = P .. 'm:' .. name, i = P .. 'i:' .. name, r = P .. 'r:' .. name, d = P .. 'd:' .. name,
      z = P .. 'z:' .. name, e = P .. 'e:' .. name, f = P .. 'f:' .. name, k = P .. 'k:' .. name,
      j = P .. 'j:' .. name,
    }
    logs[name] = log
  end
  return log
end

-- A queue, nothing if there is no such log; a plain log is refused, by an error that is an answer.
function L.queue_of(name)
  local log = L.log_of(name)
  if log and not log.queue then error({ 'KIND', name, log.kind }, 0) end
  return log
end

-- Messages of a stretch of the log; sequences are both included.
function L.messages(log, first, last, count)
  local found = call('XRANGE', log.m, format('%d-0', first), format('%d-0', last), 'COUNT', count)
  for index, entry in ipairs(found) do
    local fields = entry[2]
    found[index] = {
      sequence = tonumber(sub(entry[1], 1, -3)),
      id = fields[2], stamp = fields[4], m = fields[6], h = fields[8], b = fields[10],
    }
  end
  return found
end

function L.message_at(log, sequence) return L.messages(log, sequence, sequence, 1)[1] end

-- The sequence up to which every message was stamped before `stamp`.
function L.before(log, stamp)
  local low, high = log.floor, log.last
  while low < high do
    local middle = math.floor((low + high) / 2)
    local next = L.messages(log, middle + 1, high, 1)[1]
    if next and L.below(next.stamp, stamp) then low = next.sequence else high = middle end
  end
  local next = L.messages(log, low + 1, log.last, 1)[1]
  if next then return next.sequence - 1 end
  return log.last
end

-- Where a message with this id is. Only ids that were given are listed; one that the store made is the
-- stamp of its message, and stamps rise with the sequences.
function L.position(log, id)
  local sequence = call('HGET', log.i, id)
  if sequence then return tonumber(sequence) end
  if #id ~= 19 or id:find('%D') then return nil end
  local found = L.messages(log, L.before(log, id) + 1, log.last, 1)[1]
  if found and found.id == id then return found.sequence end
  return nil
end

-- Put a message into the answer: five values, and bytes.
function L.tell(rows, message)
  local n = #rows
  rows[n + 1], rows[n + 2] = message.sequence, message.id
  rows[n + 3], rows[n + 4], rows[n + 5] = #message.m, #message.h, #message.b
  out[#out + 1] = message.m
  out[#out + 1] = message.h
  out[#out + 1] = message.b
end

local function answer(json) return json .. '\n' .. table.concat(out) end

-- Run one operation. An error that is a table is an answer of ours; others are the server's.
local function attempt(handler, operation)
  local good, result = pcall(handler, operation)
  if good then return result end
  if type(result) == 'table' then
    if type(result[1]) == 'string' then return result end
    result = result.err or 'unknown'
  end
  return { 'ERROR', tostring(result) }
end
