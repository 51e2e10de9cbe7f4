-- The operations of one repository's queue, each of which is one step. docs/lanes.md describes them and their invariants.
-- The other files queue_*.lua come before this text; all of them are one script (queue_script.py).
--
-- KEYS[1] is the prefix `deployer:{owner/repo}`; every key below begins with it. The other keys are shared by all queues:
-- KEYS[2] says when each queue is swept next, KEYS[3] how each repository's name was spelled last, KEYS[4] which
-- environment a stack belongs to. ARGV[1] is the operation, ARGV[2] an offset to the clock in ms (0 except in tests),
-- ARGV[3] the id of the request; it is empty if a repeat of the operation changes nothing.
--   :queue, :later  LISTs of item keys, next first              :items     HASH item key -> item (JSON)
--   :snoozed       ZSET item key -> when it is due (ms)        :state     HASH who holds the queue
--   :rounds        ZSET item key -> its round in :queue
--   :delivery:<id> HASH                                        :environments, :dead  HASH of JSON
--   :activity      LIST of JSON, newest first                  :counters  HASH of version 0.1.0; now TOTALS
--   :repository    JSON, the record of the repository (no script reads it)
--   :kept          HASH environment -> since and until when a person keeps it
--   :refused       HASH item key -> how often workers refused the item, its goal, and why
--   :answer:<id>   the reply to a request, as long as a client may repeat the request
-- An item is in :items and in exactly one of :queue, :later and :snoozed. Items of resyncs wait in :later until :queue is
-- empty. The sent item is the first of :queue. The running item is only in :state. Items hold no lists, because Lua cannot
-- tell an empty list from an empty object.

-- a client repeats a request at once; a worker repeats its result while Redis is unavailable
local REPLY_KEPT_MS, FINISH_REPLY_KEPT_MS = 15000, 300000
-- A delivery with such an outcome is accepted again if GitHub sends it again (*Redeliver*).
local REPEATABLE = { failed = true, ['dead-lettered'] = true, ignored = true }

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
      delete_dead_letter(letter)
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

-- sweep grace, ttl, max_attempts -> dispatch
function ops.sweep(grace, ttl, max_attempts)
  local urgent = false
  for _, key in ipairs(call('ZRANGEBYSCORE', snoozed, '-inf', now)) do
    call('ZREM', snoozed, key)
    local work = waiting_item(key)
    local place = work and list_of(work)
    if work then append_item(work) end
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
    call('HSET', state, 'lost', message_token() .. ' ' .. item_key(work))
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
    if same and not with_items[env] then
      call('HDEL', environments, env)
      list_environment(repository, env, '')
    end
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
  delete_dead_letter(id)
  call('SET', DELIVERY_POINTER .. goal, repository, 'EX', GOAL_TTL)
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
  work.deletions, work.stack_arn, work.execution, work.not_before = 0, '', '', nil
  work = enqueue(work, 'dead', ttl)
  return reply(work.goal, dispatched(dispatch_after_enqueue(work, grace)))
end

-- discard id -> 1 or 0
function ops.discard(id) return reply(delete_dead_letter(id)) end

local key, found, expected = first_key_of_wrong_type(op, ARGV[10])  -- only `accept` has so many
if key then
  redis.pcall('ZADD', LIST .. 'lanes', 0, repository)  -- so that people see which queue is broken
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
index_queue()
if request and #result > 0 then  -- otherwise nothing was done that a repeat would do twice
  call('SET', request, cjson.encode(result), 'PX', op == 'finish' and FINISH_REPLY_KEPT_MS or REPLY_KEPT_MS)
end
return result
