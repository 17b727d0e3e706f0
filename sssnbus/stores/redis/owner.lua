-- Who has the store open: an entry with the time until which it counts as alive, by the server's clock.

-- Free what dead owners held and would have renewed; the attempt counts. All of them at once, for every lease
-- there is has to be looked at.
function L.bury_owners(dead)
  for owner in pairs(dead) do
    call('ZREM', P .. 'owners', owner)
    call('HDEL', KEYS[1], 'a:' .. owner)
    L.listen(owner, false)
  end
  for _, name in ipairs(call('ZRANGE', P .. 'logs', 0, -1)) do
    local log = L.log_of(name)
    if log and log.queue then
      for _, place in ipairs(call('ZRANGE', log.e, 0, -1)) do
        local job = L.job_at(log, place)
        if job.r == 1 and job.t and dead[job.t:match('^[^-]+')] then
          L.free(log, place, job)
          S.hint = true
        end
      end
    end
  end
end

-- Become an owner, or be one again. Requests up to `op[3]` were given up and are not taken any more.
function writes.enter(op)
  L.insist()
  call('ZADD', P .. 'owners', server_now + op[2], owner)
  call('HSETNX', KEYS[1], 'a:' .. owner, format('%d\n', op[3]))
  return { 0 }
end

-- Stay alive, and free what dead owners held.
function writes.tick(op)
  L.insist()
  local life, listens = op[2], op[3]
  local own = call('ZSCORE', P .. 'owners', owner)
  call('ZADD', P .. 'owners', server_now + life, owner)
  if listens == 1 then L.listen(owner, true) end
  local late = call('ZRANGEBYSCORE', P .. 'owners', '-inf', server_now)
  local dead = {}
  for _, other in ipairs(late) do
    if own and tonumber(own) > server_now then
      dead[other] = true
    else
      -- After an outage everybody is late, this one too; each gets the time to come back.
      call('ZADD', P .. 'owners', server_now + life, other)
    end
  end
  if next(dead) then L.bury_owners(dead) end
  return { 0 }
end

-- Hear of news from now on.
function writes.listen(op)
  L.insist()
  L.listen(owner, true)
  return { 0 }
end

-- Give back what a closing store holds, as if it had never been handed out, and take it off the lists.
function writes.leave(op)
  for _, hold in ipairs(op[2]) do
    local log = L.log_of(hold[1])
    local job, place
    if log and log.queue then job, place = L.held(log, hold[2], hold[3]) end
    if job then L.give_back(log, place, job, 0, 0, nil) end
  end
  call('ZREM', P .. 'owners', owner)
  L.listen(owner, false)
  call('HDEL', KEYS[1], 'a:' .. owner)
  -- From here on no request of this owner is taken, so no answer is kept.
  S.left = true
  return { 0 }
end
