-- What ends a lease.
function L.bury(log, draft)
  local dead = L.log_of(log.name .. DEAD)
  local older = L.position(dead, draft.id)
  if older then L.cut_any(dead, L.message_at(dead, older)) end
  L.put(dead, draft.id, draft.m, draft.h, draft.b, 0, nil, nil)
  S.hint = true
end

function writes.settle(op)
  local drafts = {}
  for index, each in ipairs(op[3]) do
    if each[1] == 3 then
      drafts[index] = { id = each[4], m = take(each[5]), h = take(each[6]), b = take(each[7]) }
    end
  end
  local log, result = L.queue_of(op[2]), { 0 }
  for index, each in ipairs(op[3]) do
    local job, place
    if log then job, place = L.held(log, each[2], each[3]) end
    result[index + 1] = job and 1 or 0
    if job and each[1] == 2 then
      L.give_back(log, place, job, each[4], each[5], opt(each[6]))
    elseif job then
      call('ZREM', log.e, place)
      if each[1] == 1 then
        L.finish(log, place, job)
      else
        L.cut(log, place, job)
        if drafts[index] then L.bury(log, drafts[index]) end
      end
    end
  end
  return result
end

function writes.extend(op)
  L.insist()
  local log, result = L.queue_of(op[2]), { 0 }
  local jobs = {}
  for index, each in ipairs(op[3]) do
    if log then jobs[index] = { L.held(log, each[1], each[2]) } end
    result[index + 1] = jobs[index] and jobs[index][1] and 1 or 0
  end
  for index in ipairs(op[3]) do
    if result[index + 1] == 1 then
      local job, place = jobs[index][1], jobs[index][2]
      job.r = 0
      L.save_job(log, place, job)
      call('ZADD', log.e, elapsed + op[4], place)
    end
  end
  return result
end

-- Begin leases anew. One that is late but was not taken back yet is good: nobody has seen it end.
function writes.renew(op)
  L.insist()
  local result = { 0 }
  for index, hold in ipairs(op[2]) do
    local log, place = L.log_of(hold[1]), L.place_of(hold[2])
    local job = log and log.queue and L.job_at(log, place)
    local good = job and job.t == hold[3] and job.r == 1
    if good then call('ZADD', log.e, elapsed + hold[4], place) end
    result[index + 1] = good and 1 or 0
  end
  return result
end
