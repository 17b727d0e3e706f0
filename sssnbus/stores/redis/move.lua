-- Messages that move or go.
function L.of_log(log, select, limit)
  if select and opt(select[1]) then
    local found = {}
    for index, place in ipairs(L.places_by_id(log, select)) do
      if index <= limit then found[index] = L.message_at(log, tonumber(place)) end
    end
    return found
  end
  local found, after = {}, 0
  repeat
    local step = L.messages(log, after + 1, log.last, math.min(limit, STEP))
    for _, message in ipairs(step) do
      after = message.sequence
      if #found < limit and (not select or L.within(message.id, select)) then found[#found + 1] = message end
    end
  until #step == 0 or #found >= limit
  return found
end

function writes.transfer(op)
  local source, target, limit, select = L.log_of(op[2]), L.log_of(op[3]), op[4], opt(op[5])
  if not target then return { 'UNKNOWN', op[3] } end
  local moving, moved = {}, {}
  if source and limit > 0 then
    if source.queue then
      L.refresh(source)
      for index, place in ipairs(L.oldest_ready(source, select, limit, true)) do
        moving[index] = L.message_at(source, tonumber(place))
      end
    else
      moving = L.of_log(source, select, limit)
    end
  end
  for _, message in ipairs(moving) do
    local there = L.position(target, message.id)
    if there and not L.same(L.message_at(target, there), message.m, message.b) then
      return { 'CONFLICT', target.name, 'id', message.id }
    end
  end
  for index, message in ipairs(moving) do
    L.cut_any(source, message)
    local there, meta = L.position(target, message.id), cjson.decode(message.m)
    moved[index] = there
      or L.put(target, message.id, message.m, message.h, message.b, meta[6], opt(meta[7]), nil).sequence
  end
  S.hint = S.hint or #moving > 0
  return { 0, moved }
end

function writes.remove(op)
  local log, count = L.log_of(op[2]), 0
  for _, id in ipairs(op[3]) do
    local sequence = log and L.position(log, id)
    if sequence then
      L.cut_any(log, L.message_at(log, sequence))
      count = count + 1
    end
  end
  return { 0, count }
end

-- One step of a trim: what went, and whether there may be more.
function writes.trim(op)
  local log = L.log_of(op[2])
  if not log then return { 0, 0, 0 } end
  local upto, stamp = opt(op[3]), opt(op[4]) and L.text_of(L.stamp_of(op[4]))
  local max_count, max_bytes = opt(op[5]), opt(op[6])
  local count, gone, more = call('XLEN', log.m), 0, true
  while more and gone < STEP do
    -- Few at a time: every body comes along.
    local found = L.messages(log, 1, log.last, 50)
    more = #found > 0
    for _, message in ipairs(found) do
      if not ((upto and message.sequence <= upto) or (stamp and L.below(message.stamp, stamp))
        or (max_count and count - gone > max_count) or (max_bytes and log.size > max_bytes)) then
        more = false
        break
      end
      L.cut_any(log, message)
      log.floor, log.changed, gone = message.sequence, true, gone + 1
    end
  end
  if upto and not more and math.min(upto, log.last) > log.floor then
    log.floor, log.changed = math.min(upto, log.last), true
  end
  return { 0, gone, more and 1 or 0 }
end
