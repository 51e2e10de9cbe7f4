-- Orders the items of a queue and hands out the next one.

-- The pauses between the refusals of an item are 15 minutes in all, because a rolling update takes less.
local REFUSALS_LIMIT, FIRST_PAUSE, LONGEST_PAUSE = 8, 10000, 300000

local function is_resting(work) return (work.not_before or 0) > now end

-- The list in which an item waits. Items of resyncs wait behind all others.
local function list_of(work) return work.cause == 'resync' and later or queue end

-- The items of the normal list wait in rounds, in each of which every sender has one item. So a sender who pushes many
-- branches delays another sender's push by one item. `:rounds` has a number for each item that was put at the end and not
-- handed out yet: its round times NUMBERS_IN_ROUND, plus a number that grows. The state has the round of the item that was
-- handed out last, and the last round of each sender. An item at the front, and one that another version has put, has no
-- round.
local NUMBERS_IN_ROUND = 2 ^ 32

local function round_of(key)
  local number = tonumber(call('ZSCORE', rounds, key) or '')
  return number and math.floor(number / NUMBERS_IN_ROUND)
end

-- The last round of each sender that has an item in this round or a later one.
local function rounds_of_senders()
  local found = {}
  for sender, last in pairs(decode_object(state_field('senders')) or {}) do
    if type(last) == 'number' and is_finite(last) and last >= state_number('round') then found[sender] = last end
  end
  return found
end

-- The first round from now on in which a sender has no item.
local function next_round(sender, last) return last[sender] and last[sender] + 1 or state_number('round') end

-- Put an item at the end of its round.
local function append_in_round(work)
  local key, last, number = item_key(work), rounds_of_senders(), state_number('placed') + 1
  local round = next_round(work.sender, last)
  last[work.sender] = round
  call('HSET', state, 'senders', cjson.encode(last), 'placed', number)
  call('ZADD', rounds, round * NUMBERS_IN_ROUND + number, key)
  local sent = queue_status() == 'sent' and state_field('env')
  while true do
    local first = call('ZRANGEBYSCORE', rounds, (round + 1) * NUMBERS_IN_ROUND, '+inf', 'LIMIT', 0, 1)[1]
    if not first then return call('RPUSH', queue, key) end
    if first ~= sent and call('LINSERT', queue, 'BEFORE', first, key) > 0 then return end
    call('ZREM', rounds, first)  -- another version has taken it out of the list, or handed it out
  end
end

local function append_item(work)
  if list_of(work) == later then call('RPUSH', later, item_key(work)) else append_in_round(work) end
end

-- Move a waiting item forward if its new sender has an earlier round.
local function move_to_sender(work)
  local key = item_key(work)
  local round = round_of(key)
  if round and next_round(work.sender, rounds_of_senders()) < round and call('LREM', queue, 1, key) == 1 then
    append_in_round(work)
  end
end

-- Move an item to the end of the normal list if it waits among the items of resyncs and is no item of a resync any more.
local function leave_later_list(work)
  local key = item_key(work)
  if list_of(work) == queue and call('LREM', later, 1, key) == 1 then append_item(work) end
end

-- Keep a merged item in its place, unless it belongs to another list or its new sender has an earlier round.
local function keep_in_list(work, former_sender)
  leave_later_list(work)
  if work.sender ~= former_sender then move_to_sender(work) end
end

-- When it was decided what an item wants: for an admitted tag the time of its push, for other items that of their arrival.
local function decision_time(work) return work.decided_at > 0 and work.decided_at or work.accepted_at end

-- Put an item into the queue. If the queue has an item with the same key, `was` says which of the two is newer: a 'new'
-- item is newer, a 'running' one is older, and for an 'admitted' or 'dead' one the time of the decision decides. An
-- admitted item goes to the end, so that the other waiting tags are checked before production changes.
local function enqueue(work, was, ttl)
  local key = item_key(work)
  local there = waiting_item(key)
  if there then
    local former_sender = there.sender
    local newer = was == 'new' or (was ~= 'running' and decision_time(work) > decision_time(there))
    work = newer and merge_items(there, work, ttl) or merge_items(work, there, ttl)
    -- An item that rests after a failure keeps its pause if the other one only joins it: more calls would only meet the
    -- same rate limit.
    if not is_resting(work) and call('ZREM', snoozed, key) == 1 then append_item(work) end
    keep_in_list(work, former_sender)
  elseif was == 'running' then
    call('LPUSH', list_of(work), key)
  else
    append_item(work)
  end
  call('HSET', items, key, encode_item(work))
  return work
end

-- Snooze an item that ran until `due` (ms). If a newer item has arrived meanwhile, both are merged and may run at once.
local function snooze_item(work, due, ttl)
  local key = item_key(work)
  local newer = waiting_item(key)
  local former_sender = newer and newer.sender
  if newer then work = merge_items(work, newer, ttl) end
  call('HSET', items, key, encode_item(work))
  if not newer or is_resting(work) then  -- otherwise it is in a list already
    call('LREM', queue, 0, key)
    call('LREM', later, 0, key)
    call('ZREM', rounds, key)
    call('ZADD', snoozed, work.not_before or due, key)
  else
    keep_in_list(work, former_sender)
  end
end

-- Give an item that a worker did not understand to another worker later. After some refusals make a dead letter of it.
local function refuse_item(work, why, ttl)
  local key = item_key(work)
  local before = call('HGET', refused, key) or ''
  local times, goal = string.match(before, '^(%d+) (%S*)')
  times = (goal == work.goal and tonumber(times) or 0) + 1
  why = short_line(why)
  if times >= REFUSALS_LIMIT then
    end_unreadable(work, 'no worker understood this queue item, ' .. times .. ' were asked: ' .. why, ttl)
    return 'dead', 0
  end
  call('HSET', refused, key, times .. ' ' .. work.goal .. ' ' .. why)
  local pause = math.min(FIRST_PAUSE * 2 ^ (times - 1), LONGEST_PAUSE)
  if not work.raw then work.not_before = now + pause end
  snooze_item(work, now + pause, ttl)
  return 'refused', pause
end

-- The key of the next item, which this function moves to the head of the queue.
local function head_of_queue()
  if call('EXISTS', queue) == 0 and call('EXISTS', later) == 1 then call('RPUSH', queue, call('LPOP', later)) end
  return call('LINDEX', queue, 0)
end

local function dispatch_next(grace)
  local key = head_of_queue()
  -- a key whose item was lost is skipped; the next resync finds what its environment needs
  while key and call('HEXISTS', items, key) == 0 do
    call('ZREM', rounds, call('LPOP', queue))
    key = head_of_queue()
  end
  if not key then
    call('HSET', state, 'status', 'idle', 'env', '', 'task', '', 'current', '', 'until', 0, 'round', 0, 'placed', 0,
      'senders', '')
    call('DEL', rounds)
    return {}
  end
  local work = waiting_item(key)
  local task = work.task ~= '' and work.task or FALLBACK_TASK
  local low = list_of(work) == later and call('LLEN', queue) == 1 and '1' or '0'
  -- Tokens only grow, even if Redis lost its data, so no earlier holder is ever taken for the current one.
  local token = string.format('%.0f', math.max(state_number('token') + 1, now))
  call('HSET', state, 'status', 'sent', 'token', token, 'env', key, 'task', task, 'current', '',
    'until', now + grace, 'sends', 1, 'low', low, 'round', math.max(state_number('round'), round_of(key) or 0))
  call('ZREM', rounds, key)
  return { key, task, token, low }
end

-- Give the message that was sent with low priority a normal priority, because a more urgent item waits behind it.
local function raise_priority()
  call('HSET', state, 'low', '0')
  return { state_field('env'), state_field('task'), state_field('token'), '0' }
end

local function is_low_priority() return queue_status() == 'sent' and state_field('low') == '1' end

-- Hand out the next item if nobody holds the queue, or if the sent message names another task than its item now has. If
-- the new item is urgent, raise the priority of the sent message.
local function dispatch_after_enqueue(work, grace)
  local status = queue_status()
  local sent_otherwise = status == 'sent' and state_field('env') == item_key(work) and state_field('task') ~= work.task
  if status == 'idle' or sent_otherwise then return dispatch_next(grace) end
  if is_low_priority() and list_of(work) == queue and not is_resting(work) then return raise_priority() end
  return {}
end
