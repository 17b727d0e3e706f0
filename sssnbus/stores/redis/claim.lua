-- Handing out messages.
-- Take out of the ready ones what a selection means, by priority, then by age.
function L.pick(log, select, limit)
  local places = {}
  if limit <= 0 then return places end
  if not select then
    local popped = call('ZPOPMIN', log.r, limit)
    for index = 1, #popped, 2 do places[#places + 1] = popped[index] end
    return places
  end
  if opt(select[1]) then
    local found = {}
    for _, place in ipairs(L.places_by_id(log, select)) do
      local score = call('ZSCORE', log.r, place)
      if score then found[#found + 1] = { tonumber(score), place } end
    end
    table.sort(found, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
    for index = 1, math.min(limit, #found) do places[index] = found[index][2] end
  else
    local offset, chosen = 0, L.bounds(log, select)
    repeat
      local found = call('ZRANGE', log.r, offset, offset + STEP - 1)
      offset = offset + STEP
      for _, place in ipairs(found) do
        if #places < limit and chosen(place) then
          places[#places + 1] = place
        end
      end
    until #found < STEP or #places >= limit
  end
  for _, place in ipairs(places) do call('ZREM', log.r, place) end
  return places
end

function writes.claim(op)
  local log, worker, lease, limit = L.queue_of(op[2]), op[3], op[4], op[5]
  if not log then return { 0, -1, {} } end
  local select, renewed, token = opt(op[6]), op[7], op[8]
  local wait, leases = L.refresh(log), {}
  for index, place in ipairs(L.pick(log, select, limit)) do
    local message = L.message_at(log, tonumber(place))
    local job = L.job_at(log, place)
    job.a, job.t, job.r = job.a + 1, token .. '-' .. index, renewed
    job.s, job.w = #message.h + #message.b, worker
    L.save_job(log, place, job)
    call('ZADD', log.e, elapsed + lease, place)
    leases[index] = { message.sequence, job.t, job.a, job.x or cjson.null }
    S.told[log.name .. ' ' .. message.sequence] = message
  end
  if #leases > 0 and (wait < 0 or lease < wait) then wait = lease end
  return { 0, wait, leases }
end
