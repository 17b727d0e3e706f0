-- Everything that only reads.
local reads = {}

-- A replica tells old news. It alone refuses this because it is one, and nowhere does this change anything.
local refusal = redis.pcall('HDEL', KEYS[1], '')
if type(refusal) == 'table' and refusal.err:find('READONLY', 1, true) then return 'REPLICA' end

-- Whether one of some patterns is found in what is told of a message.
function L.is_wanted(message, patterns)
  for _, pattern in ipairs(patterns) do
    if message.m:find(pattern) then return true end
  end
  return false
end

-- A stretch of a log, until there are enough messages, so many bytes or so many looked at; whether there may
-- be more, and up to where it was looked.
function reads.read(op)
  local log, after, limit, room = L.log_of(op[2]), math.max(op[3], 0), op[4], op[6]
  local look, patterns = opt(op[7]) or limit, op[8]
  if not log then return { 0, 0, 0, {}, 0, after } end
  local rows, upto, more = {}, math.min(opt(op[5]) or log.last, log.last), true
  while more and limit > 0 and room > 0 and look > 0 do
    -- Few at a time, for nothing tells how big they are.
    local step = math.min(16, look, #patterns > 0 and 16 or limit)
    local found = L.messages(log, after + 1, upto, step)
    more = #found == step
    for _, message in ipairs(found) do
      after, look, room = message.sequence, look - 1, room - #message.h - #message.b
      if #patterns == 0 or L.is_wanted(message, patterns) then
        L.tell(rows, message)
        limit = limit - 1
        if limit == 0 then
          more = true
          break
        end
      end
    end
  end
  if not more then after = math.max(after, upto) end
  return { 0, log.floor, log.last, rows, more and limit > 0 and 1 or 0, after }
end

function reads.last(op)
  local result = { 0 }
  for index, name in ipairs(op[2]) do
    local log = L.log_of(name)
    result[index + 1] = log and log.last or 0
  end
  return result
end

function reads.find(op)
  local log, rows = L.log_of(op[2]), {}
  local sequence = log and L.position(log, op[3])
  if sequence then L.tell(rows, L.message_at(log, sequence)) end
  return { 0, rows }
end

function reads.locate(op)
  local log = L.log_of(op[2])
  return { 0, log and L.before(log, L.text_of(L.stamp_of(op[3]))) or 0 }
end

function reads.peek(op)
  local log, limit, select = L.queue_of(op[2]), op[3], opt(op[4])
  local rows = {}
  if not log or limit <= 0 then return { 0, rows } end
  local places = L.oldest_ready(log, select, limit, false)
  -- What the next claim will find ready because its time has come.
  local due = {}
  for key, time in pairs({ [log.d] = wall, [log.z] = elapsed, [log.e] = elapsed }) do
    for _, place in ipairs(call('ZRANGEBYSCORE', key, '-inf', time, 'LIMIT', 0, STEP)) do
      due[#due + 1] = place
    end
  end
  if select and opt(select[1]) then
    local named = {}
    for _, place in ipairs(L.places_by_id(log, select)) do named[place] = true end
    for _, place in ipairs(due) do
      if named[place] then places[#places + 1] = place end
    end
  else
    for _, place in ipairs(due) do
      if not select or L.within(L.message_at(log, tonumber(place)).id, select) then
        places[#places + 1] = place
      end
    end
  end
  table.sort(places)
  for index = 1, math.min(limit, #places) do L.tell(rows, L.message_at(log, tonumber(places[index]))) end
  return { 0, rows }
end

function reads.kind(op)
  local row = call('HMGET', P .. 'l:' .. op[2], 'kind', 'born')
  return { 0, row[1] or cjson.null, row[2] or cjson.null }
end

-- Which one of its name a log is, how far it has come, and the id at a place of it.
function reads.look(op)
  local row = call('HMGET', P .. 'l:' .. op[2], 'born', 'last')
  local log = L.log_of(op[2])
  local message = log and L.message_at(log, op[3])
  return { 0, row[1] or cjson.null, tonumber(row[2]) or 0, message and message.id or cjson.null }
end

function reads.logs(op)
  local prefix, result = op[2], { 0 }
  local names = prefix == '' and call('ZRANGE', P .. 'logs', 0, -1)
    or call('ZRANGEBYLEX', P .. 'logs', '[' .. prefix, '(' .. prefix .. '\255')
  for _, name in ipairs(names) do
    if prefix:find('!', 1, true) or not name:find('!', 1, true) then
      local log = L.log_of(name)
      result[#result + 1] = { name, log.kind, log.last, log.floor, call('XLEN', log.m), log.size }
    end
  end
  return result
end

function reads.counts(op)
  local log = L.queue_of(op[2])
  if not log then return { 0, 0, 0, 0, 0 } end
  local done = call('SCARD', log.f)
  local delayed = call('ZCOUNT', log.d, '(' .. format('%.17g', wall), '+inf')
    + call('ZCOUNT', log.z, '(' .. format('%.17g', elapsed), '+inf')
  local leased = call('ZCOUNT', log.e, '(' .. format('%.17g', elapsed), '+inf')
  return { 0, call('XLEN', log.m) - done - delayed - leased, delayed, leased, done }
end

-- A time as text: numbers in JSON have 14 digits here, too few for one since the epoch.
function L.time_text(time) return format('%.17g', time) end

-- How a message stands: state, attempts, last error, due time; of a leased one its token and end.
function L.standing(job, due, rests, ends, done)
  local error = job.x or cjson.null
  if done then return { 'done', job.a, error } end
  if ends and ends > elapsed then
    return { 'leased', job.a, error, cjson.null, job.t, L.time_text(ends) }
  end
  if rests and rests > elapsed then return { 'delayed', job.a, error, L.time_text(wall + rests - elapsed) } end
  -- One that waits behind its key counts as ready; that it is due later is not lost.
  local later = due or job.d
  if not later or later <= wall then return { 'ready', job.a, error } end
  return { due and 'delayed' or 'ready', job.a, error, L.time_text(later) }
end

function reads.standing(op)
  local log, result = L.queue_of(op[2]), { 0, L.time_text(elapsed) }
  if not log or #op[3] == 0 then return result end
  for first = 1, #op[3], STEP do
    local last, places = math.min(first + STEP - 1, #op[3]), {}
    for index = first, last do places[#places + 1] = L.place_of(op[3][index]) end
    local ready, due = call('ZMSCORE', log.r, unpack(places)), call('ZMSCORE', log.d, unpack(places))
    local rests, ends = call('ZMSCORE', log.z, unpack(places)), call('ZMSCORE', log.e, unpack(places))
    local done = call('SMISMEMBER', log.f, unpack(places))
    for index, place in ipairs(places) do
      local job = L.job_at(log, place)
      local there = ready[index] or due[index] or rests[index] or ends[index] or done[index] == 1
      if there or (job.k and call('ZSCORE', log.k, L.line_of(job.k) .. place)) then
        local standing = L.standing(
          job, tonumber(due[index]), tonumber(rests[index]), tonumber(ends[index]), done[index] == 1)
        result[#result + 1] = { op[3][first + index - 1], standing }
      end
    end
  end
  return result
end

function L.record(value)
  local _, finish, version = value:find('^(%d+)\n')
  out[#out + 1] = sub(value, finish + 1)
  return version, #value - finish
end

function reads.get(op)
  local value = call('HGET', P .. 's:' .. op[2], op[3])
  if not value then return { 0 } end
  return { 0, L.record(value) }
end

function reads.names(op)
  local result, all = { 0 }, call('HGETALL', P .. 's:' .. op[2])
  for index = 1, #all, 2 do
    local version, size = L.record(all[index + 1])
    result[#result + 1] = { all[index], version, size }
  end
  return result
end

function reads.spaces(op) return { 0, call('ZRANGE', P .. 'spaces', 0, -1) } end

-- The newest id, and the memory that all keys take up; what a big one takes is estimated by the server.
function reads.usage(op)
  local clock, size = call('HMGET', KEYS[1], 's', 'n'), 0
  local function weigh(key)
    local its = redis.pcall('MEMORY', 'USAGE', key)
    if type(its) == 'number' then size = size + its end
  end
  for _, key in ipairs({ KEYS[1], P .. 'logs', P .. 'spaces', P .. 'owners' }) do weigh(key) end
  for _, name in ipairs(call('ZRANGE', P .. 'logs', 0, -1)) do
    for _, part in ipairs(L.PARTS) do weigh(P .. part .. name) end
  end
  for _, space in ipairs(call('ZRANGE', P .. 'spaces', 0, -1)) do weigh(P .. 's:' .. space) end
  return { 0, clock[1] and L.text_of(tonumber(clock[1]), tonumber(clock[2])) or cjson.null, size }
end

-- An owner is alive until its time is up. After an outage every time is up, also that of the one who
-- asks, and then nobody can tell.
function reads.alive(op)
  local its, own = call('ZSCORE', P .. 'owners', op[2]), call('ZSCORE', P .. 'owners', op[3])
  if not its then return { 0, 0 } end
  local told = own and tonumber(own) > server_now
  return { 0, (not told or tonumber(its) > server_now) and 1 or 0 }
end

function reads.changed(op)
  return { 0, call('HGET', KEYS[1], 'v') or '0' }
end

local results = {}
for index, operation in ipairs(head[6]) do
  results[index] = attempt(reads[operation[1]], operation)
end
return answer(cjson.encode(results))
