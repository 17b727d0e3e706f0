-- Apply the operations, tell others, write down what the operations have in common, and answer.
local results = replayed or {}

if not replayed then
  for index, operation in ipairs(head[6]) do
    results[index] = attempt(writes[operation[1]], operation)
  end
  for _, log in pairs(logs) do
    if log.changed then
      call('HSET', P .. 'l:' .. log.name, 'last', log.last, 'floor', log.floor, 'size', log.size,
        'given', log.given and 1 or 0)
    end
  end
end

-- What short news is worth carrying along: messages that follow each other in one log.
function L.letter()
  local first = S.letters[1]
  if S.hint or #S.letters > 32 then return '!' end
  local rows, parts, size = {}, {}, 0
  for index, each in ipairs(S.letters) do
    local message = each[2]
    size = size + #message.h + #message.b
    if each[1] ~= first[1] or message.sequence ~= first[2].sequence + index - 1 or size > 16384 then
      return '!'
    end
    rows[#rows + 1], rows[#rows + 2], rows[#rows + 3] = message.sequence, message.id, #message.m
    rows[#rows + 1], rows[#rows + 2] = #message.h, #message.b
    parts[#parts + 1] = message.m .. message.h .. message.b
  end
  return cjson.encode({ first[1], rows }) .. '\n' .. table.concat(parts)
end

local news = S.hint or #S.letters > 0
if news then
  local told
  for ear in S.ears:gmatch('%S+') do
    if ear ~= owner then
      told = told or L.letter()
      -- The right to tell may be taken from us; what was written is written.
      if redis.pcall('PUBLISH', P .. 'bell:' .. ear, told) == 0 then L.listen(ear, false) end
    end
  end
end

-- Messages are no part of the answer that is kept: they are read again when it is asked for again.
local fields, json = {}, nil
if number > 0 and not replayed and not S.left then
  json = cjson.encode(results)
  fields = { 'a:' .. owner, format('%d\n', number) .. json }
end
if S.stamped or news then
  local v = tonumber(clock[4]) + (news and 1 or 0)
  for _, field in ipairs({ 's', S.s, 'n', S.n, 'v', v }) do fields[#fields + 1] = field end
end
if S.ears ~= (clock[5] or ' ') then fields[#fields + 1], fields[#fields + 2] = 'ears', S.ears end
-- If the server has no room for this, then nothing was written before, and nothing is to be kept.
if #fields > 0 then redis.pcall('HSET', KEYS[1], unpack(fields)) end

-- Put the messages of an operation into the answer.
local function tell_all(name, sequences)
  local rows, log = {}, L.log_of(name)
  for _, sequence in ipairs(sequences) do
    local message = S.told[name .. ' ' .. sequence] or (log and L.message_at(log, sequence))
    if message then L.tell(rows, message) end
  end
  return rows
end

for index, operation in ipairs(head[6]) do
  local result = results[index]
  if result[1] == 0 and operation[1] == 'claim' then
    local sequences = {}
    for at, lease in ipairs(result[3]) do sequences[at] = lease[1] end
    result[4], json = tell_all(operation[2], sequences), nil
  elseif result[1] == 0 and operation[1] == 'transfer' then
    results[index], json = { 0, tell_all(operation[3], result[2]) }, nil
  end
end
return answer(json or cjson.encode(results))
