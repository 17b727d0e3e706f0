-- What time alone does to a queue.
function L.first_wait(list, time)
  local first = call('ZRANGE', list, 0, 0, 'WITHSCORES')
  return first[2] and tonumber(first[2]) - time
end

-- Make ready what became so by time; return the seconds until the next of the rest, -1 if there is none.
function L.refresh(log)
  local wait = -1
  for _, each in ipairs({ { log.d, wall }, { log.z, elapsed }, { log.e, elapsed } }) do
    local list, time = each[1], each[2]
    local left = L.first_wait(list, time)
    if left and left <= 0 then
      for _, place in ipairs(call('ZRANGEBYSCORE', list, '-inf', time, 'LIMIT', 0, STEP)) do
        local job = L.job_at(log, place)
        if list == log.e then
          L.free(log, place, job)
        else
          call('ZREM', list, place)
          call('ZADD', log.r, -job.p, place)
        end
      end
      left = L.first_wait(list, time)
    end
    if left and (wait < 0 or left < wait) then wait = math.max(left, 0) end
  end
  return wait
end
