-- What a request that may change something begins with.
local owner, number, birth = head[1], head[2], head[3]
local writes = {}

-- The clock, and whether this is still the store that was opened.
local clock = call('HMGET', KEYS[1], 'birth', 's', 'n', 'v', 'ears', 'a:' .. owner)
if clock[1] ~= birth then return 'REPLACED' end

-- A request is done once, however often it comes: the last answer to each owner is kept, and what is
-- older than that was given up by its sender. Number 0 is for what may be repeated.
local replayed
if number > 0 then
  local kept = clock[6]
  if not kept then return 'GONE' end
  local _, finish, last = kept:find('^(%d+)\n')
  last = tonumber(last)
  if last > number or (last == number and finish == #kept) then return 'STALE' end
  if last == number then replayed = cjson.decode(sub(kept, finish + 1)) end
end

-- The newest id; who listens; what is news to them: messages that came, or that there is something.
S.s, S.n, S.ears = tonumber(clock[2]), tonumber(clock[3]), clock[5] or ' '
-- And messages that were read already and will be told.
S.stamped, S.hint, S.letters, S.told = false, false, {}, {}

-- Ids rise, whatever the clock does.
function L.next_stamp()
  local s, n = L.stamp_of(wall)
  if s > S.s or (s == S.s and n > S.n) then
    S.s, S.n = s, n
  elseif S.n + 1 < WHOLE_SECOND then
    S.n = S.n + 1
  else
    S.s, S.n = S.s + 1, 0
  end
  S.stamped = true
  return L.text_of(S.s, S.n)
end

-- Put an owner on the list of those who listen, or take it off.
function L.listen(who, on)
  local first, last = S.ears:find(' ' .. who .. ' ', 1, true)
  if on and not first then
    S.ears = S.ears .. who .. ' '
  elseif first and not on then
    S.ears = sub(S.ears, 1, first) .. sub(S.ears, last + 1)
  end
end
