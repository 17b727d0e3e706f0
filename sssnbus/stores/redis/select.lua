-- Which messages are meant: by selection, by readiness.
function L.within(id, select)
  local after, upto = opt(select[2]), opt(select[3])
  return (not after or L.below(after, id)) and (not upto or L.below(id, upto))
end

-- Return what tells whether the message at a place is within the bounds of a selection. While all ids of a
-- log are its own they rise with the places, and no message has to be looked at.
function L.bounds(log, select)
  if log.given then
    return function(place) return L.within(L.message_at(log, tonumber(place)).id, select) end
  end
  local after, upto = opt(select[2]), opt(select[3])
  local first = after and L.place_of(L.before(log, after)) or ''
  if after then
    local there = L.position(log, after)
    if there then first = L.place_of(there) end
  end
  local last = upto and L.place_of(L.before(log, upto)) or '9'
  return function(place) return first < place and place <= last end
end

-- The places of those messages of a selection by ids that are there, oldest first.
function L.places_by_id(log, select)
  local places, seen = {}, {}
  for _, id in ipairs(select[1]) do
    if not seen[id] and L.within(id, select) then
      seen[id] = true
      local sequence = L.position(log, id)
      if sequence then places[#places + 1] = L.place_of(sequence) end
    end
  end
  table.sort(places)
  return places
end

-- Ready places by age; with `done` also what is done and named by its id.
function L.oldest_ready(log, select, limit, done)
  local places = {}
  if select and opt(select[1]) then
    for _, place in ipairs(L.places_by_id(log, select)) do
      if #places < limit
        and (call('ZSCORE', log.r, place) or (done and call('SISMEMBER', log.f, place) == 1)) then
        places[#places + 1] = place
      end
    end
    return places
  end
  local chosen = select and L.bounds(log, select)
  -- Few may be chosen of many, and every step counts its way to where it begins.
  local step = chosen and STEP or math.min(limit, STEP)
  -- Each priority is in the order of age, and there are few of them.
  local top = call('ZRANGE', log.r, 0, 0, 'WITHSCORES')
  while top[2] do
    local count, offset = 0, 0
    repeat
      local found = call('ZRANGEBYSCORE', log.r, top[2], top[2], 'LIMIT', offset, step)
      offset = offset + #found
      for _, place in ipairs(found) do
        if count < limit and (not chosen or chosen(place)) then
          count = count + 1
          places[#places + 1] = place
        end
      end
    until #found == 0 or count >= limit
    top = call('ZRANGEBYSCORE', log.r, '(' .. top[2], '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  end
  table.sort(places)
  while #places > limit do places[#places] = nil end
  return places
end
