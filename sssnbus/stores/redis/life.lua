-- What becomes of a queue's messages after they were put there.

-- Take a message out of the line of its key, and let the next one in if it was the head.
function L.step_out(log, place, key)
  local line = L.line_of(key)
  local was_head = L.head_of(log, line) == line .. place
  call('ZREM', log.k, line .. place)
  local head = was_head and L.head_of(log, line)
  if head then
    local next = sub(head, -16)
    local job = L.job_at(log, next)
    L.admit(log, next, job.p, job.d)
    S.hint = true
  end
end

-- Keep a message that is done; nothing else lists it any more.
function L.finish(log, place, job)
  call('HDEL', log.j, place)
  call('SADD', log.f, place)
  if job.k then L.step_out(log, place, job.k) end
end

-- Remove a message from a log whose lists name it no more.
function L.cut(log, place, job, message)
  local sequence = tonumber(place)
  if log.given or job.s == 0 then message = message or L.message_at(log, sequence) end
  if log.queue then call('HDEL', log.j, place) end
  call('XDEL', log.m, format('%d-0', sequence))
  if log.given and message and message.id ~= message.stamp then call('HDEL', log.i, message.id) end
  log.size = log.size - (message and #message.h + #message.b or job.s)
  log.changed = true
  if job.k then L.step_out(log, place, job.k) end
end

-- Remove a message in whatever state it is.
function L.cut_any(log, message)
  local place = L.place_of(message.sequence)
  if not log.queue then
    L.cut(log, place, { p = 0, a = 0, s = 0 }, message)
    return
  end
  local job = L.job_at(log, place)
  if call('SREM', log.f, place) == 1 then
    job.k = nil
  else
    for _, list in ipairs({ log.r, log.d, log.z, log.e }) do call('ZREM', list, place) end
  end
  L.cut(log, place, job, message)
end

function L.free(log, place, job)
  job.t, job.r, job.w = nil, nil, nil
  call('ZREM', log.e, place)
  L.save_job(log, place, job)
  call('ZADD', log.r, -job.p, place)
end

-- The job of a lease whose token is good: it is the last one, and it has not ended.
function L.held(log, sequence, token)
  local place = L.place_of(sequence)
  local job = L.job_at(log, place)
  if job.t ~= token then return nil end
  local ends = call('ZSCORE', log.e, place)
  if ends and tonumber(ends) > elapsed then return job, place end
  return nil
end

function L.give_back(log, place, job, delay, counted, failure)
  if counted == 0 then job.a = job.a - 1 end
  if failure then job.x = failure end
  L.free(log, place, job)
  if delay > 0 then
    call('ZREM', log.r, place)
    call('ZADD', log.z, elapsed + delay, place)
  end
  S.hint = true
end

-- A server that is out of memory refuses the first write of a script if that needs room, and no later
-- one. Whatever must go on then begins with this, which changes nothing.
function L.insist() call('HDEL', KEYS[1], '') end
