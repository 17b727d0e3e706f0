-- Messages that come as they stood elsewhere.
function writes.restore(op)
  local log, standings = L.queue_of(op[2]), op[4]
  if not log then return { 'UNKNOWN', op[2] } end
  local result = writes.append({ op[1], cjson.null, op[3] })
  if result[1] ~= 0 then return result end
  for index, standing in ipairs(standings) do
    local state, attempts, failure = standing[1], standing[2], opt(standing[3])
    if result[3 * index + 1] == 0 then
      local place = L.place_of(result[3 * index])
      local job = L.job_at(log, place)
      job.a, job.x = attempts, failure
      if state == 'done' then
        call('ZREM', log.r, place)
        call('ZREM', log.d, place)
        L.finish(log, place, job)
      elseif attempts > 0 or failure then
        L.save_job(log, place, job)
      end
    end
  end
  S.hint = true
  return result
end
