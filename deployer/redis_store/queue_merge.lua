-- Merges two items with the same key. docs/lanes.md has the table of cases.

local BEFORE_LENGTH_LIMIT = 400
local DELIVERIES_LIMIT = 50  -- of one item; an environment may get thousands of events while its item waits

-- Whether an item need not wait for a turn among the resyncs of all repositories, or had its turn.
local function needs_no_turn(work) return work.cause ~= 'resync' or work.turned == true end

-- Give `stays` the deliveries of both. Those beyond the limit end now, because the task of `stays` covers them.
local function join_deliveries(stays, joins, ttl)
  local kept, over = {}, {}
  for id in string.gmatch((stays.deliveries or '') .. ',' .. (joins.deliveries or ''), '[^,]+') do
    local ids = #kept < DELIVERIES_LIMIT and kept or over
    ids[#ids + 1] = id
  end
  stays.deliveries = table.concat(kept, ',')
  end_deliveries({ deliveries = table.concat(over, ',') }, 'superseded', 'covered by ' .. stays.goal, ttl)
end

local function merge_readable(older, newer, ttl)
  if older.cause == 'push' and (newer.cause == 'push' or newer.cause == 'deletion') and (newer.pushed_at or 0) > 0
      and newer.pushed_at < (older.pushed_at or 0) then  -- GitHub delivered the two out of order
    end_superseded(newer, older.goal, ttl)
    older.before = string.sub((older.before or '') .. ',' .. (newer.before or ''), 1, BEFORE_LENGTH_LIMIT)
    return older
  end
  if older.cause == 'event' and newer.cause ~= 'event' then  -- the newer item does all that an event's item does
    if not REPLACES[newer.cause] then newer.not_before = newer.not_before or older.not_before end
    older, newer = newer, older
  elseif REPLACES[newer.cause] then
    end_superseded(older, newer.goal, ttl)
    if (newer.replaced_at or 0) == 0 then  -- otherwise it has replaced a later item already
      local push = older.cause == 'push'
      newer.replaced_after = push and older.after or older.replaced_after
      newer.replaced_at = push and older.accepted_at or older.replaced_at
    end
    -- all recent commits of the ref, because GitHub may answer with one of them for some seconds after the push
    newer.before = string.sub((newer.before or '') .. ',' .. (older.before or ''), 1, BEFORE_LENGTH_LIMIT)
    return newer
  elseif older.turned and older.attempts == 0 and needs_no_turn(newer) then
    older.not_before = nil  -- it waits only for its turn, and the newer item needs none
  end
  older.turned = older.turned or needs_no_turn(newer)
  -- GitHub sends both `deleted` and `removed` for a deleted repository, in any order
  if older.word ~= 'deleted' and (newer.word or '') ~= '' then older.word = newer.word end
  older.recreate = older.recreate or newer.recreate
  join_deliveries(older, newer, ttl)
  older.polls = 0
  older.looked_at = math.max(older.looked_at or 0, newer.looked_at or 0)
  return older
end

local function merge_items(older, newer, ttl)
  if older.raw or newer.raw then  -- one key has room for one item, and these two cannot be compared
    local goes = older.raw and older or newer
    end_unreadable(goes, 'this queue item cannot be read, and other work with its key took its place', ttl)
    return goes == older and newer or older
  end
  return merge_readable(older, newer, ttl)
end
