-- The life of a queue's messages. A place is in one of: `r` ready (by priority, then age), `d` due at a
-- wall time, `z` resting until a time, `e` leased until a time, `f` done; or behind the head of its key.
-- `j` holds what is to be known of those that are more than ready for the first time: priority, key,
-- attempts, last error (x), token, whether the lease is renewed, size, worker, due time.

function L.save_job(log, place, job) call('HSET', log.j, place, cmsgpack.pack(job)) end

function L.admit(log, place, priority, due)
  if due then
    call('ZADD', log.d, due, place)
  else
    call('ZADD', log.r, -priority, place)
  end
end

function L.head_of(log, line)
  return call('ZRANGEBYLEX', log.k, '[' .. line .. '0', '(' .. line .. ':', 'LIMIT', 0, 1)[1]
end

-- Forget keys whose window is over; return how many.
function L.forget_windows(log)
  local kept, windows = P .. 'u:' .. log.name, P .. 'w:' .. log.name
  local over = call('ZRANGEBYSCORE', windows, '-inf', elapsed, 'LIMIT', 0, STEP)
  for _, key in ipairs(over) do
    call('ZREM', windows, key)
    call('HDEL', kept, key)
  end
  return #over
end

-- Put a message at the end. Nothing is written before XADD, which a server without room refuses.
function L.put(log, id, m, h, b, priority, key, due)
  local stamp = L.next_stamp()
  if not id then
    while log.given and call('HEXISTS', log.i, stamp) == 1 do stamp = L.next_stamp() end
    id = stamp
  end
  local sequence = log.last + 1
  call('XADD', log.m, format('%d-0', sequence), 'i', id, 't', stamp, 'm', m, 'h', h, 'b', b)
  log.last, log.size, log.changed = sequence, log.size + #h + #b, true
  if id ~= stamp then
    call('HSET', log.i, id, sequence)
    log.given = true
  end
  if log.queue then
    local place, waits = L.place_of(sequence), false
    if key then
      local line = L.line_of(key)
      waits = L.head_of(log, line) ~= nil
      call('ZADD', log.k, 0, line .. place)
    end
    if key or priority ~= 0 or due then
      L.save_job(log, place, { p = priority, k = key, a = 0, s = 0, d = due })
    end
    if not waits then L.admit(log, place, priority, due) end
  end
  return { sequence = sequence, id = id, stamp = stamp, m = m, h = h, b = b }
end
