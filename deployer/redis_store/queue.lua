-- The operations of one repository's queue, each of which is one step. docs/lanes.md describes them and their invariants.
-- The other files queue_*.lua come before this text; all of them are one script (queue_script.py).
--
-- KEYS[1] is the prefix `deployer:{owner/repo}`; every key below begins with it. The other keys are shared by all queues:
-- KEYS[2] says when each queue is swept next, KEYS[3] how each repository's name was spelled last, KEYS[4] which
-- environment a stack belongs to. ARGV[1] is the operation, ARGV[2] an offset to the clock in ms (0 except in tests),
-- ARGV[3] the id of the request; it is empty if a repeat of the operation changes nothing.
--   :queue, :later  LISTs of item keys, next first              :items     HASH item key -> item (JSON)
--   :snoozed       ZSET item key -> when it is due (ms)        :state     HASH who holds the queue
--   :delivery:<id> HASH                                        :environments, :dead  HASH of JSON
--   :activity      LIST of JSON, newest first                  :counters  HASH
--   :repository    JSON, the record of the repository (no script reads it)
--   :kept          HASH environment -> since and until when a person keeps it
--   :refused       HASH item key -> how often workers refused the item, its goal, and why
--   :answer:<id>   the reply to a request, as long as a client may repeat the request
-- An item is in :items and in exactly one of :queue, :later and :snoozed. Items of resyncs wait in :later until :queue is
-- empty. The sent item is the first of :queue. The running item is only in :state. Items hold no lists, because Lua cannot
-- tell an empty list from an empty object.

local IDLE_SWEEP_MS = 60000
-- a client repeats a request at once; a worker repeats its result while Redis is unavailable
local REPLY_KEPT_MS, FINISH_REPLY_KEPT_MS = 15000, 300000
local REPORT_ONLY = { [WORKER_LOST] = true, TaskTimeout = true }  -- the attempt that makes such a letter only reports it
-- A delivery with such an outcome is accepted again if GitHub sends it again (*Redeliver*).
local REPEATABLE = { failed = true, ['dead-lettered'] = true, ignored = true }

local function next_sweep_at()
  if queue_status() ~= 'idle' then return state_number('until') end
  local first = call('ZRANGE', snoozed, 0, 0, 'WITHSCORES')
  local due = first[2] and tonumber(first[2])
  return due and is_finite(due) and due or now + IDLE_SWEEP_MS
end

-- The reply of an operation. A dispatch at its end, of four values, is followed by the repository's name as last spelled.
local function reply(...) return { ... } end

local function dispatched(dispatch)
  if #dispatch > 0 then
    local name = redis.pcall('HGET', SPELLED_NAMES, repository)
    dispatch[#dispatch + 1] = type(name) == 'string' and name or repository
  end
  return unpack(dispatch)
end

local INVALID_ITEM = redis.error_reply('ERR a field of the given queue item has another type, or a number is not finite')
local ops = {}

-- accept work, delivery, event, ttl, grace, full_name, stack_name, former_stack_name
-- -> queued|duplicate, goal or outcome, dispatch
function ops.accept(text, delivery, event, ttl, grace, full_name, stack_name, former_stack_name)
  local work = decode_item(text)
  if not work then return INVALID_ITEM end
  write_indexes(full_name, stack_name, former_stack_name, work, delivery, ttl)
  if delivery ~= '' then
    local key = PREFIX .. ':delivery:' .. delivery
    local outcome, letter = call('HGET', key, 'outcome'), call('HGET', key, 'letter') or ''
    local dead = letter ~= '' and decode_object(call('HGET', dead_letters, letter) or '')
    dead = dead and type(dead.work) == 'string' and dead
    -- an event does not replay a dead letter, because the letter may hold a push, about which a person decides
    if outcome and (not REPEATABLE[outcome] or (dead and not REPLACES[work.cause])) then
      add_to_counter('delivery:duplicate')
      return reply('duplicate', outcome)
    end
    if dead then  -- the delivery replays its dead letter; the other deliveries of the letter are superseded
      call('HDEL', dead_letters, letter)
      local died = read_item(dead.work)
      died.deliveries = string.gsub(',' .. died.deliveries .. ',', ',' .. string.gsub(delivery, '%p', '%%%0') .. ',', ',')
      end_deliveries(died, 'superseded', 'replaced by ' .. delivery, ttl)
    end
    local times = (tonumber(call('HGET', key, 'times') or '') or 0) + 1
    if times > 1 then work.goal = delivery .. '#' .. times end
    work.deliveries = delivery
    call('HSET', key, 'times', times, 'delivery', delivery, 'repository', repository, 'environment', work.environment,
      'event', event, 'outcome', 'queued', 'reason', '', 'letter', '', 'received_at', now / 1000)
    call('HDEL', key, 'finished_at')
    call('PERSIST', key)
    add_to_counter('delivery:queued')
  end
  work.accepted_at = now / 1000
  work = enqueue(work, 'new', ttl)
  return reply('queued', work.goal, dispatched(dispatch_after_enqueue(work, grace)))
end

-- begin token, lease -> work
function ops.begin(token, lease)
  if state_field('token') ~= token or queue_status() ~= 'sent' then return reply() end
  local key = call('LPOP', queue)
  local work = key and waiting_item(key)
  if not work then
    call('HSET', state, 'status', 'idle', 'until', 0)
    return reply()
  end
  call('HDEL', items, key)
  work.attempts, work.not_before, work.began_at = work.attempts + 1, nil, now / 1000
  local text = encode_item(work)
  call('HSET', state, 'status', 'running', 'current', text, 'until', now + lease, 'why', '')
  return reply(text)
end

-- extend token, lease -> 1 or 0
function ops.extend(token, lease)
  if state_field('token') ~= token or queue_status() ~= 'running' then return reply(0) end
  call('HSET', state, 'until', now + lease)
  return reply(1)
end

-- expire token, key, why -> 1 or 0: end the lease now, because the process of the holder has ended
function ops.expire(token, key, why)
  local running = queue_status() == 'running'
  if running and state_field('token') == token then
    call('HSET', state, 'until', now, 'why', why)
    return reply(1)
  end
  if state_field('lost') ~= token then return reply(0) end
  -- A sweep has ended the lease already. Correct the error of the attempt that it has added.
  local runs = running and state_field('env') == key
  local work = runs and running_item() or waiting_item(key)
  local before, last = string.match(work and not work.raw and work.tries or '', '^(.-)([^\n]+)$')
  local try = last and decode_object(last)
  if not try or try.error ~= WORKER_LOST_ERROR then return reply(0) end
  try.error = why
  work.tries = before .. cjson.encode(try)
  if runs then call('HSET', state, 'current', encode_item(work)) else call('HSET', items, key, encode_item(work)) end
  return reply(1)
end

-- finish token, kind, work, record, seconds, outcome, reason, commit, letter, counts, ttl, grace
-- -> lost|finished, dispatch
function ops.finish(token, kind, text, record, seconds, outcome, reason, commit, letter, counts, ttl, grace)
  if state_field('token') ~= token or queue_status() ~= 'running' then return reply('lost') end
  local ran = running_item()
  local env = ran.environment
  local work, dead_letter = text ~= '' and decode_item(text), kind == 'dead' and cjson.decode(letter)
  local died = dead_letter and read_item(dead_letter.work)
  if work == nil then return INVALID_ITEM end
  seconds = tonumber(seconds)
  if not is_finite(seconds) then seconds = LONGEST_PAUSE / 1000 end
  for name, by in pairs(cjson.decode(counts)) do add_to_counter(name, by) end
  call('HDEL', refused, item_key(ran))
  if record ~= '' then call('HSET', environments, env, record) end
  if outcome == 'deleted' then call('HDEL', PREFIX .. ':kept', env) end
  if kind == 'done' or kind == 'dead' then
    end_deliveries(ran, outcome, reason, ttl)
    -- events that AWS sends about deployer's own operations are not listed
    if ran.cause ~= 'event' or outcome ~= 'skipped' then
      add_activity(ran, outcome, reason, commit)
    end
    add_to_counter('goal:' .. outcome)
    if dead_letter then
      if not REPORT_ONLY[dead_letter.kind] and not died.raw then
        add_failed_attempt(died, ran, dead_letter.reason)
        dead_letter.work = cjson.encode(died)
      end
      store_dead_letter(ran, dead_letter)
    end
  else
    -- A task that succeeded is not counted as an attempt. Failed attempts before it still count, because a failed step
    -- runs again by way of the task that decides. Only a snooze resets them.
    if kind == 'again' or kind == 'rest' then work.attempts = math.max(work.attempts - 1, 0) end
    if kind == 'snooze' then work.attempts, work.tries = 0, '' end
    if kind == 'retry' then add_failed_attempt(work, ran, reason) end
    if kind == 'again' then
      enqueue(work, item_key(work) == item_key(ran) and 'running' or 'admitted', ttl)
    else
      if kind == 'retry' or kind == 'rest' then work.not_before = now + seconds * 1000 end
      snooze_item(work, now + seconds * 1000, ttl)
    end
  end
  return reply('finished', dispatched(dispatch_next(grace)))
end

-- sweep grace, ttl, max_attempts -> dispatch
function ops.sweep(grace, ttl, max_attempts)
  local urgent = false
  for _, key in ipairs(call('ZRANGEBYSCORE', snoozed, '-inf', now)) do
    call('ZREM', snoozed, key)
    local work = waiting_item(key)
    local place = work and list_of(work)
    if place then call('RPUSH', place, key) end
    urgent = urgent or place == queue
  end
  local status, due = queue_status(), state_number('until') <= now
  local raised = urgent and is_low_priority() and raise_priority()
  if status == 'running' and due then
    local work = running_item()
    local why = state_field('why')
    if work.raw then
      refuse_item(work, WORKER_LOST_ERROR, ttl)
      return reply(dispatched(dispatch_next(grace)))
    end
    add_failed_attempt(work, work, why ~= '' and why or WORKER_LOST_ERROR)
    call('HSET', state, 'lost', state_field('token'))
    -- The item is handed out once more than `max_attempts`: that worker only makes a dead letter and reports it on the
    -- commit.
    if work.attempts > tonumber(max_attempts) then
      local reason = 'its worker was lost ' .. work.attempts .. ' times while running ' .. work.task
      -- A resync is repeated every hour, so only its last dead letter is kept.
      end_as_dead_letter(work, WORKER_LOST, reason, work.environment == '*' and 'resync' or state_field('token'), ttl)
    else
      add_to_counter('lane:expired')
      enqueue(work, 'running', ttl)
    end
    return reply(dispatched(dispatch_next(grace)))
  end
  if status == 'sent' and due then  -- the message was lost, or waits behind others: send it again
    local sends = state_number('sends') + 1
    call('HSET', state, 'sends', sends, 'until', now + math.min(grace * 2 ^ (sends - 1), 60000))
    return reply(dispatched({ state_field('env'), state_field('task'), state_field('token'), state_field('low') }))
  end
  if raised then return reply(dispatched(raised)) end
  if status == 'idle' then return reply(dispatched(dispatch_next(grace))) end
  return reply()
end

-- forget seen: environment -> `updated_at` of the record to delete. A record that has changed since stays. The token does
-- not matter, because an unchanged record shows that nothing has happened meanwhile.
function ops.forget(seen)
  local with_items = {}
  if queue_status() == 'running' then with_items[running_item().environment] = true end
  for _, key in ipairs(call('HKEYS', items)) do with_items[environment_of_key(key)] = true end
  for env, at in pairs(cjson.decode(seen)) do
    local record = decode_object(call('HGET', environments, env) or '')
    local same = record and (record.updated_at or 0) == at
    if same and not with_items[env] then call('HDEL', environments, env) end
  end
  return reply()
end

-- replay id, goal, grace, ttl, whether the caller can read the item -> goal, dispatch; or `unreadable`; or nothing if
-- there is no such letter
function ops.replay(id, goal, grace, ttl, readable)
  local text = call('HGET', dead_letters, id)
  if not text then return reply() end
  local letter = decode_object(text)
  local env = letter and type(letter.environment) == 'string' and letter.environment ~= '' and letter.environment or nil
  local text_of_work = letter and type(letter.work) == 'string' and letter.work
  local work = text_of_work and readable == '1' and decode_item(text_of_work)
  if text_of_work and not (work and (work.environment == env or not env)) then
    work = unreadable_item(text_of_work, env)
  end
  if not work or work.environment == '' then return reply('unreadable') end
  if work.raw then  -- nobody knows what it wanted, so its environment is resynced
    work.raw, work.key, work.cause, work.turned = nil, nil, 'resync', true
  end
  call('HDEL', dead_letters, id)
  local deliveries = {}
  for delivery in string.gmatch(work.deliveries or '', '[^,]+') do
    local key = delivery_key(delivery)
    if key then
      call('HSET', key, 'outcome', 'queued', 'reason', 'replayed', 'letter', '')
      call('HDEL', key, 'finished_at')
      call('PERSIST', key)
      deliveries[#deliveries + 1] = delivery
    end
  end
  work.deliveries = table.concat(deliveries, ',')
  work.attempts, work.tries, work.polls, work.goal = 0, '', 0, goal
  -- GitHub and AWS may have changed since then, so everything except what was asked for is decided again
  if work.environment == '*' then
    work.task = 'deployer.resync'
  else
    work.task = work.cause == 'event' and 'deployer.notify' or 'deployer.sync'  -- an event starts no deployment
  end
  if not work.chosen then work.sha = '' end
  work.created, work.updated, work.recovered, work.restored, work.replacing = false, false, false, false, false
  work.corrects = false
  work.deletions, work.stack_arn, work.execution, work.not_before = 0, '', '', nil
  work = enqueue(work, 'dead', ttl)
  return reply(work.goal, dispatched(dispatch_after_enqueue(work, grace)))
end

-- discard id -> 1 or 0
function ops.discard(id) return reply(call('HDEL', dead_letters, id)) end

-- refuse token, why, ttl, grace -> lost | refused|dead, the pause in ms, dispatch: the worker with this token does not
-- understand the item, or does not know the task that the message names
function ops.refuse(token, why, ttl, grace)
  local status = queue_status()
  if state_field('token') ~= token or status == 'idle' then return reply('lost') end
  local key = state_field('env')
  local work = status == 'running' and running_item() or waiting_item(key)
  if status == 'running' then
    work.attempts = math.max(work.attempts - 1, 0)
  else
    call('HDEL', items, key)  -- its key stays the first of the queue, and keys without an item are skipped
  end
  local outcome, pause = 'refused', 0
  if work then outcome, pause = refuse_item(work, why, ttl) end
  return reply(outcome, string.format('%.0f', pause), dispatched(dispatch_next(grace)))
end

local key, found, expected = first_key_of_wrong_type(op, ARGV[10])  -- only `accept` has so many
if key then
  return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ' and has to be a ' .. expected)
end
-- A client that got no reply repeats the request and gets the same reply.
local request = ARGV[3] ~= '' and PREFIX .. ':answer:' .. ARGV[3]
local known = request and call('GET', request)
if known then return cjson.decode(known) end
local arguments = {}
for i = 4, #ARGV do arguments[#arguments + 1] = ARGV[i] end
local result = ops[op](unpack(arguments))
if result.err then return result end
-- `sweep` postpones the next sweep; every other operation can only bring it nearer
if op == 'sweep' then
  call('ZADD', SWEEP_INDEX, math.min(next_sweep_at(), now + IDLE_SWEEP_MS), repository)
else
  call('ZADD', SWEEP_INDEX, 'LT', next_sweep_at(), repository)
end
if request and #result > 0 then  -- otherwise nothing was done that a repeat would do twice
  call('SET', request, cjson.encode(result), 'PX', op == 'finish' and FINISH_REPLY_KEPT_MS or REPLY_KEPT_MS)
end
return result
