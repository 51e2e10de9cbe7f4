-- Where items wait, and which is handed out next.

local REFUSALS, FIRST_PAUSE, LONGEST_PAUSE = 8, 10000, 300000  -- a quarter of an hour: a rolling update takes less

local function resting(work) return (work.not_before or 0) > now end

-- where work waits: what a resync wants lets everything else pass
local function place_of(work) return work.cause == 'resync' and later or queue end

-- what waits for a resync's turn, and is now wanted by more than a resync, waits no longer for that
local function advance(work)
  local key = item_key(work)
  if place_of(work) == queue and C('LREM', later, 1, key) == 1 then C('RPUSH', queue, key) end
end

-- when somebody decided what this work wants: an admitted tag has the time of its push, other work that of its arrival
local function decided_at(work) return work.decided_at > 0 and work.decided_at or work.accepted_at end

-- Put work into the queue. If an item with its key is there, `was` tells which of the two is newer: 'new' work is; work that
-- was 'running' is not; of work that was 'admitted' or 'dead', the time of the decision tells. Admitted work goes to the
-- end, so that the other tags that wait are judged before production changes.
local function put(work, was, ttl)
  local key = item_key(work)
  local there = waiting(key)
  if there then
    local newer = was == 'new' or (was ~= 'running' and decided_at(work) > decided_at(there))
    work = newer and merged(there, work, ttl) or merged(work, there, ttl)
    -- what sleeps after a fault is left asleep by whatever only joins it: a rate limit is not to be knocked at
    if not resting(work) and C('ZREM', snoozed, key) == 1 then C('RPUSH', place_of(work), key) end
    advance(work)
  elseif was == 'running' then
    C('LPUSH', place_of(work), key)
  else
    C('RPUSH', place_of(work), key)
  end
  C('HSET', items, key, written(work))
  return work
end

-- let work that ran sleep until it is due; where newer work came meanwhile, both are merged and may go on at once
local function put_aside(work, due, ttl)
  local key = item_key(work)
  local newer = waiting(key)
  if newer then work = merged(work, newer, ttl) end
  C('HSET', items, key, written(work))
  if not newer or resting(work) then  -- else it waits already
    C('LREM', queue, 0, key)
    C('LREM', later, 0, key)
    C('ZADD', snoozed, work.not_before or due, key)
  else
    advance(work)
  end
end

-- a worker did not understand this item: another one gets it later, and after so many of them it is a dead letter
local function refuse(work, why, ttl)
  local key = item_key(work)
  local before = C('HGET', refused, key) or ''
  local times, goal = string.match(before, '^(%d+) (%S*)')
  times = (goal == work.goal and tonumber(times) or 0) + 1
  why = brief(why)
  if times >= REFUSALS then
    die_unread(work, 'no worker understood this queue item, ' .. times .. ' were asked: ' .. why, ttl)
    return 'dead', 0
  end
  C('HSET', refused, key, times .. ' ' .. work.goal .. ' ' .. why)
  local pause = math.min(FIRST_PAUSE * 2 ^ (times - 1), LONGEST_PAUSE)
  if not work.raw then work.not_before = now + pause end
  put_aside(work, now + pause, ttl)
  return 'refused', pause
end

-- the next that waits, at the head of the queue
local function first()
  if C('EXISTS', queue) == 0 and C('EXISTS', later) == 1 then C('RPUSH', queue, C('LPOP', later)) end
  return C('LINDEX', queue, 0)
end

local function hand_out(grace)
  local key = first()
  while key and C('HEXISTS', items, key) == 0 do  -- half of it was lost; the next resync sees to that environment
    C('LPOP', queue)
    key = first()
  end
  if not key then
    C('HSET', state, 'status', 'idle', 'env', '', 'task', '', 'current', '', 'until', 0)
    return {}
  end
  local work = waiting(key)
  local task = work.task ~= '' and work.task or FALLBACK
  local low = place_of(work) == later and C('LLEN', queue) == 1 and '1' or '0'
  -- only grows, even when Redis was wiped in between: no older holder can ever be taken for the current one
  local token = string.format('%.0f', math.max(held_number('token') + 1, now))
  C('HSET', state, 'status', 'sent', 'token', token, 'env', key, 'task', task, 'current', '',
    'until', now + grace, 'sends', 1, 'low', low)
  return { key, task, token, low }
end

-- send once more what waits among the workers behind everything else, since something more urgent waits for it
local function hasten()
  C('HSET', state, 'low', '0')
  return { held('env'), held('task'), held('token'), '0' }
end

local function is_low() return status() == 'sent' and held('low') == '1' end

-- hand out if nobody holds the lane, or if what was sent is no longer what is to be done; hasten it where that is urgent
local function hand_out_after(work, grace)
  local now_is = status()
  if now_is == 'idle' or (now_is == 'sent' and held('env') == item_key(work) and held('task') ~= work.task) then
    return hand_out(grace)
  end
  if is_low() and place_of(work) == queue and not resting(work) then return hasten() end
  return {}
end
