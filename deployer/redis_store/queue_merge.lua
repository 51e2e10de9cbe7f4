-- Two items with one key become one.

local BEFORE_LIMIT = 400
local DELIVERIES_LIMIT = 50  -- that one item lists; an environment may get thousands of events while its lane waits

-- more than a resync of all wants it, or its turn was taken
local function wants_no_turn(work) return work.cause ~= 'resync' or work.turned == true end

-- `stays` gets the deliveries of both; those beyond the limit end now, the task of `stays` covers them
local function join(stays, joins, ttl)
  local kept, over = {}, {}
  for id in string.gmatch((stays.deliveries or '') .. ',' .. (joins.deliveries or ''), '[^,]+') do
    local ids = #kept < DELIVERIES_LIMIT and kept or over
    ids[#ids + 1] = id
  end
  stays.deliveries = table.concat(kept, ',')
  close({ deliveries = table.concat(over, ',') }, 'superseded', 'covered by ' .. stays.goal, ttl)
end

local function one_of(older, newer, ttl)
  if older.cause == 'push' and (newer.cause == 'push' or newer.cause == 'deletion') and (newer.pushed_at or 0) > 0
      and newer.pushed_at < (older.pushed_at or 0) then  -- delivered out of order
    superseded(newer, older.goal, ttl)
    older.before = string.sub((older.before or '') .. ',' .. (newer.before or ''), 1, BEFORE_LIMIT)
    return older
  end
  if older.cause == 'event' and newer.cause ~= 'event' then  -- what only watches gives way, its deliveries go along
    if not REPLACES[newer.cause] then newer.not_before = newer.not_before or older.not_before end
    older, newer = newer, older
  elseif REPLACES[newer.cause] then
    superseded(older, newer.goal, ttl)
    if (newer.replaced_at or 0) == 0 then  -- else it replaced one already that came after this one
      local push = older.cause == 'push'
      newer.replaced_after = push and older.after or older.replaced_after
      newer.replaced_at = push and older.accepted_at or older.replaced_at
    end
    -- every place the ref was at lately: a stale read of GitHub must not be taken for news
    newer.before = string.sub((newer.before or '') .. ',' .. (older.before or ''), 1, BEFORE_LIMIT)
    return newer
  elseif older.turned and older.attempts == 0 and wants_no_turn(newer) then
    older.not_before = nil  -- it only waits for its turn, and more than a resync of all wants it now
  end
  older.turned = older.turned or wants_no_turn(newer)
  -- of a deleted repository GitHub tells both words, in any order
  if older.word ~= 'deleted' and (newer.word or '') ~= '' then older.word = newer.word end
  join(older, newer, ttl)
  older.polls = 0
  older.looked_at = math.max(older.looked_at or 0, newer.looked_at or 0)
  return older
end

local function merged(older, newer, ttl)
  if older.raw or newer.raw then  -- there is one place for both, and they cannot be compared
    local goes = older.raw and older or newer
    die_unread(goes, 'this queue item cannot be read, and other work with its key took its place', ttl)
    return goes == older and newer or older
  end
  return one_of(older, newer, ttl)
end
