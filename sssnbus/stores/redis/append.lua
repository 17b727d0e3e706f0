-- Adding messages. What an append refuses it refuses before it writes.
function L.same(there, m, b)
  return there.b == b and cjson.decode(there.m)[4] == cjson.decode(m)[4]
end

-- Where the message of a draft is already: its place, an earlier draft of the batch, or nothing.
function L.known(log, draft, drafts, ids, keys)
  local id, dedupe = opt(draft[2]), opt(draft[9])
  if id then
    local sequence = L.position(log, id)
    local earlier = ids[log.name .. '\0' .. id]
    if sequence or earlier then
      local there = sequence and L.message_at(log, sequence) or drafts[earlier]
      if not L.same(there, draft.m, draft.b) then error({ 'CONFLICT', log.name, 'id', id }, 0) end
      return sequence and { id, sequence } or earlier
    end
  end
  if not dedupe then return nil end
  local key, digest = dedupe[1], dedupe[2]
  local kept = call('HGET', P .. 'u:' .. log.name, key)
  if kept and tonumber(call('ZSCORE', P .. 'w:' .. log.name, key)) > elapsed then
    kept = cmsgpack.unpack(kept)
    if kept[1] ~= digest then error({ 'CONFLICT', log.name, 'dedupe key', key }, 0) end
    return { kept[2], kept[3] }
  end
  local earlier = keys[log.name .. '\0' .. key]
  if earlier and drafts[earlier][9][2] ~= digest then
    error({ 'CONFLICT', log.name, 'dedupe key', key }, 0)
  end
  return earlier
end

function L.remember(log, dedupe, message)
  local kept, windows = P .. 'u:' .. log.name, P .. 'w:' .. log.name
  L.forget_windows(log)
  call('HSET', kept, dedupe[1], cmsgpack.pack({ dedupe[2], message.id, message.sequence }))
  call('ZADD', windows, elapsed + dedupe[3], dedupe[1])
end

function L.check_depth(limits, added)
  for name, limit in pairs(limits) do
    local log = L.log_of(name)
    if added[name] and log and log.queue then
      local depth = call('XLEN', log.m) - call('SCARD', log.f)
      if depth + added[name] > limit then error({ 'FULL', name, depth, limit }, 0) end
    end
  end
end

function writes.append(op)
  local limits, drafts = opt(op[2]), op[3]
  local plan, ids, keys, added = {}, {}, {}, {}
  for _, draft in ipairs(drafts) do
    draft.m, draft.h, draft.b = take(draft[3]), take(draft[4]), take(draft[5])
  end
  for index, draft in ipairs(drafts) do
    local name, id, dedupe = draft[1], opt(draft[2]), opt(draft[9])
    local log = L.log_of(name)
    if not log then return { 'UNKNOWN', name } end
    plan[index] = (id or dedupe) and L.known(log, draft, drafts, ids, keys) or false
    if not plan[index] then
      added[name] = (added[name] or 0) + 1
      if id then ids[name .. '\0' .. id] = index end
      if dedupe then keys[name .. '\0' .. dedupe[1]] = index end
    end
  end
  if limits then L.check_depth(limits, added) end
  local result, placed = { 0 }, {}
  for index, draft in ipairs(drafts) do
    local there, duplicate = plan[index], 1
    if type(there) == 'number' then
      there = placed[there]
    elseif not there then
      local log = L.log_of(draft[1])
      local message =
        L.put(log, opt(draft[2]), draft.m, draft.h, draft.b, draft[6], opt(draft[7]), opt(draft[8]))
      if opt(draft[9]) then L.remember(log, draft[9], message) end
      there, duplicate = { message.id, message.sequence }, 0
      S.letters[#S.letters + 1] = { log.name, message }
    end
    placed[index] = there
    local size = #result
    result[size + 1], result[size + 2], result[size + 3] = there[1], there[2], duplicate
  end
  return result
end
