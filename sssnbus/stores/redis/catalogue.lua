-- The catalogue and the records.
function L.declare(name, kind)
  call('HSET', P .. 'l:' .. name, 'kind', kind, 'last', 0, 'floor', 0, 'size', 0, 'born', L.next_stamp())
  call('ZADD', P .. 'logs', 0, name)
  S.hint = true
end

function writes.declare(op)
  local name = op[2]
  if not L.log_of(name) then
    L.declare(name, op[3])
    if not name:find('!', 1, true) and not L.log_of(name .. DEAD) then
      L.declare(name .. DEAD, 'broadcast')
    end
  end
  return { 0, L.log_of(name).kind, call('HGET', P .. 'l:' .. name, 'born') }
end

function L.forget(name)
  for _, part in ipairs(L.PARTS) do call('UNLINK', P .. part .. name) end
  call('ZREM', P .. 'logs', name)
  logs[name] = nil
  S.hint = true
end

function writes.drop(op)
  local name = op[2]
  if L.log_of(name) then L.forget(name) end
  if not name:find('!', 1, true) then
    if L.log_of(name .. DEAD) then L.forget(name .. DEAD) end
  elseif sub(name, -#DEAD) == DEAD and L.log_of(sub(name, 1, -#DEAD - 1)) then
    -- The companion of a channel that stays begins anew.
    L.declare(name, 'broadcast')
  end
  return { 0 }
end

-- One step of a vacuum: what went, and whether there may be more.
function writes.vacuum(op)
  local names = opt(op[2]) and { op[2] } or call('ZRANGE', P .. 'logs', 0, -1)
  local count, over = 0, 0
  for _, name in ipairs(names) do
    local log = L.log_of(name)
    if log and log.queue and count < STEP then
      for _, place in ipairs(call('SPOP', log.f, STEP - count)) do
        L.cut(log, place, { p = 0, a = 0, s = 0 })
        count = count + 1
      end
    end
    -- Appends forget those of their log; nothing else does in one that gets no more of them.
    if log and over < STEP then over = over + L.forget_windows(log) end
  end
  return { 0, count, (count >= STEP or over >= STEP) and 1 or 0 }
end

function writes.put(op)
  local key, name, value = P .. 's:' .. op[2], op[3], take(op[5])
  local there = call('HGET', key, name)
  local version = there and there:match('^%d+') or nil
  if version ~= opt(op[4]) then return { 0 } end
  local new = L.next_stamp()
  call('HSET', key, name, new .. '\n' .. value)
  if not there then call('ZADD', P .. 'spaces', 0, op[2]) end
  return { 0, new }
end

function writes.delete(op)
  local key = P .. 's:' .. op[2]
  local count = call('HDEL', key, op[3])
  if count > 0 and call('EXISTS', key) == 0 then call('ZREM', P .. 'spaces', op[2]) end
  return { 0, count }
end
