-- The lane of one repository: its sequence of work, and the ledger written in the same breath.
-- docs/lanes.md describes the operations and what always holds.
--
-- KEYS[1] is the prefix `deployer:{owner/repo}`; every key below begins with it, so that all of a lane is in one
-- slot of a Redis Cluster. ARGV[1] is the operation, ARGV[2] an offset to the clock in ms (0 but for tests), ARGV[3] the
-- id of the request, or empty where a repeat of the operation changes nothing.
--   :queue, :later  LISTs of item keys, next first              :items     HASH item key -> work (JSON)
--   :snoozed       ZSET item key -> when it comes back (ms)    :state     HASH who holds the lane
--   :delivery:<id> HASH                                        :environments, :dead  HASH of JSON
--   :activity      LIST of JSON, newest first                  :counters  HASH
--   :repository    JSON, what is known of it as a whole (no script reads it)
--   :kept          HASH environment -> since and until when a person wants it kept
--   :refused       HASH item key -> how often workers did not understand the item, its goal, and why
--   :answer:<id>   what a request was answered, for as long as a client may repeat it
-- An item is in :items and in exactly one of :queue, :later and :snoozed. What a resync wants waits in :later, whose turn comes when :queue is empty; what was sent is the first of :queue. The work that runs is in :state
-- only. JSON objects of work hold no lists: Lua cannot tell an empty one from an empty object.
--
-- queue_items.lua comes before this text. It reads and checks whatever can be of another form than expected; an operation
-- reads all it needs in that way before its first write.

local IDLE_LOOK = 60000
local REPEATED_MS, FINISH_REPEATED_MS = 15000, 300000  -- a client repeats at once; a worker's verdict waits for Redis
local UNTRIED = { [LOST] = true, TaskTimeout = true }  -- who makes such a letter only tells of it
-- a delivery with such an outcome may come again, as GitHub's *Redeliver* sends it
local REPEATABLE = { failed = true, ['dead-lettered'] = true, ignored = true }

local function look()
  if status() ~= 'idle' then return held_number('until') end
  local first = C('ZRANGE', snoozed, 0, 0, 'WITHSCORES')
  local due = first[2] and tonumber(first[2])
  return due and is_finite(due) and due or now + IDLE_LOOK
end

local function answer(...)
  local out = { string.format('%.0f', look()) }
  for _, value in ipairs({ ... }) do out[#out + 1] = value end
  return out
end

local UNSOUND = redis.error_reply('ERR the work that was given has a field of another type or a number that is not finite')
local ops = {}

-- accept work, delivery, event, ttl, grace -> queued|duplicate, goal or outcome, dispatch
function ops.accept(text, delivery, event, ttl, grace)
  local work = sound_work(text)
  if not work then return UNSOUND end
  if delivery ~= '' then
    local key = P .. ':delivery:' .. delivery
    local outcome, letter = C('HGET', key, 'outcome'), C('HGET', key, 'letter') or ''
    local dead = letter ~= '' and object(C('HGET', dead_letters, letter) or '')
    dead = dead and type(dead.work) == 'string' and dead
    -- an event cannot stand for the push that died with it: that waits for a person
    if outcome and (not REPEATABLE[outcome] or (dead and not REPLACES[work.cause])) then
      count('delivery:duplicate')
      return answer('duplicate', outcome)
    end
    if dead then  -- it does what a replay would; others that died with it are done with it
      C('HDEL', dead_letters, letter)
      local died = read_work(dead.work)
      died.deliveries = string.gsub(',' .. died.deliveries .. ',', ',' .. string.gsub(delivery, '%p', '%%%0') .. ',', ',')
      close(died, 'superseded', 'replaced by ' .. delivery, ttl)
    end
    local times = (tonumber(C('HGET', key, 'times') or '') or 0) + 1
    if times > 1 then work.goal = delivery .. '#' .. times end
    work.deliveries = delivery
    C('HSET', key, 'times', times, 'delivery', delivery, 'repository', repository, 'environment', work.environment,
      'event', event, 'outcome', 'queued', 'reason', '', 'letter', '', 'received_at', now / 1000)
    C('HDEL', key, 'finished_at')
    C('PERSIST', key)
    count('delivery:queued')
  end
  work.accepted_at = now / 1000
  work = put(work, 'new', ttl)
  return answer('queued', work.goal, unpack(hand_out_after(work, grace)))
end

-- begin token, lease -> work
function ops.begin(token, lease)
  if held('token') ~= token or status() ~= 'sent' then return answer() end
  local key = C('LPOP', queue)
  local work = key and waiting(key)
  if not work then
    C('HSET', state, 'status', 'idle', 'until', 0)
    return answer()
  end
  C('HDEL', items, key)
  work.attempts, work.not_before, work.began_at = work.attempts + 1, nil, now / 1000
  local text = written(work)
  C('HSET', state, 'status', 'running', 'current', text, 'until', now + lease, 'why', '')
  return answer(text)
end

-- extend token, lease -> 1 or 0
function ops.extend(token, lease)
  if held('token') ~= token or status() ~= 'running' then return answer(0) end
  C('HSET', state, 'until', now + lease)
  return answer(1)
end

-- expire token, key, why -> 1 or 0: the holder's process is known to have ended, so its lease ends now
function ops.expire(token, key, why)
  local running = status() == 'running'
  if running and held('token') == token then
    C('HSET', state, 'until', now, 'why', why)
    return answer(1)
  end
  if held('lost') ~= token then return answer(0) end
  -- a sweep found the lease over before this was known: correct how it says that the attempt ended
  local runs = running and held('env') == key
  local work = runs and current() or waiting(key)
  local before, last = string.match(work and not work.raw and work.tries or '', '^(.-)([^\n]+)$')
  local try = last and object(last)
  if not try or try.error ~= LOST_ERROR then return answer(0) end
  try.error = why
  work.tries = before .. cjson.encode(try)
  if runs then C('HSET', state, 'current', written(work)) else C('HSET', items, key, written(work)) end
  return answer(1)
end

-- finish token, kind, work, record, seconds, outcome, reason, commit, letter, counts, ttl, grace
-- -> lost|finished, dispatch
function ops.finish(token, kind, text, record, seconds, outcome, reason, commit, letter, counts, ttl, grace)
  if held('token') ~= token or status() ~= 'running' then return answer('lost') end
  local current = current()
  local env = current.environment
  local work, dead = text ~= '' and sound_work(text), kind == 'dead' and cjson.decode(letter)
  local died = dead and read_work(dead.work)
  if work == nil then return UNSOUND end
  seconds = tonumber(seconds)
  if not is_finite(seconds) then seconds = LONGEST_PAUSE / 1000 end
  for name, by in pairs(cjson.decode(counts)) do count(name, by) end
  C('HDEL', refused, item_key(current))
  if record ~= '' then C('HSET', environments, env, record) end
  if outcome == 'deleted' then C('HDEL', P .. ':kept', env) end
  if kind == 'done' or kind == 'dead' then
    close(current, outcome, reason, ttl)
    if current.cause ~= 'event' or outcome ~= 'skipped' then  -- AWS's echo of what was done is no history
      list_end(current, outcome, reason, commit)
    end
    count('goal:' .. outcome)
    if dead then
      if not UNTRIED[dead.kind] and not died.raw then
        note_try(died, current, dead.reason)
        dead.work = cjson.encode(died)
      end
      bury(current, dead)
    end
  else
    -- what went well is no attempt; those before it count on until something is ordered, since a step that failed
    -- comes back by way of the task that decides
    if kind == 'again' or kind == 'rest' then work.attempts = math.max(work.attempts - 1, 0) end
    if kind == 'snooze' then work.attempts, work.tries = 0, '' end
    if kind == 'retry' then note_try(work, current, reason) end
    if kind == 'again' then
      put(work, item_key(work) == item_key(current) and 'running' or 'admitted', ttl)
    else
      if kind == 'retry' or kind == 'rest' then work.not_before = now + seconds * 1000 end
      put_aside(work, now + seconds * 1000, ttl)
    end
  end
  return answer('finished', unpack(hand_out(grace)))
end

-- sweep grace, ttl, max_attempts -> dispatch
function ops.sweep(grace, ttl, max_attempts)
  local urgent = false
  for _, key in ipairs(C('ZRANGEBYSCORE', snoozed, '-inf', now)) do
    C('ZREM', snoozed, key)
    local work = waiting(key)
    local place = work and place_of(work)
    if place then C('RPUSH', place, key) end
    urgent = urgent or place == queue
  end
  local now_is, due = status(), held_number('until') <= now
  local haste = urgent and is_low() and hasten()
  if now_is == 'running' and due then
    local work = current()
    local why = held('why')
    if work.raw then
      refuse(work, LOST_ERROR, ttl)
      return answer(unpack(hand_out(grace)))
    end
    note_try(work, work, why ~= '' and why or LOST_ERROR)
    C('HSET', state, 'lost', held('token'))
    -- once more than it is tried: whoever gets it then makes a dead letter of it, and tells of that on its commit
    if work.attempts > tonumber(max_attempts) then
      local reason = 'its worker was lost ' .. work.attempts .. ' times while running ' .. work.task
      -- a resync comes back every hour: its last death is enough to keep
      die(work, LOST, reason, work.environment == '*' and 'resync' or held('token'), ttl)
    else
      count('lane:expired')
      put(work, 'running', ttl)
    end
    return answer(unpack(hand_out(grace)))
  end
  if now_is == 'sent' and due then  -- the message was lost, or waits behind others: send it once more
    local sends = held_number('sends') + 1
    C('HSET', state, 'sends', sends, 'until', now + math.min(grace * 2 ^ (sends - 1), 60000))
    return answer(held('env'), held('task'), held('token'), held('low'))
  end
  if haste then return answer(unpack(haste)) end
  if now_is == 'idle' then return answer(unpack(hand_out(grace))) end
  return answer()
end

-- forget seen: environment -> `updated_at` of the record to drop, which has not changed since. By what token the lane is
-- held does not matter: of what is as it was seen, nothing came meanwhile
function ops.forget(seen)
  local runs = status() == 'running' and current().environment
  for env, at in pairs(cjson.decode(seen)) do
    local record = object(C('HGET', environments, env) or '')
    local same = record and (record.updated_at or 0) == at
    if same and env ~= runs and C('HEXISTS', items, env) == 0 then C('HDEL', environments, env) end
  end
  return answer()
end

-- replay id, goal, grace, ttl, whether the caller can read the work -> goal, dispatch; or `unreadable`, or nothing where
-- there is no such letter
function ops.replay(id, goal, grace, ttl, readable)
  local text = C('HGET', dead_letters, id)
  if not text then return answer() end
  local letter = object(text)
  local env = letter and type(letter.environment) == 'string' and letter.environment ~= '' and letter.environment or nil
  local text_of_work = letter and type(letter.work) == 'string' and letter.work
  local work = text_of_work and readable == '1' and sound_work(text_of_work)
  if text_of_work and not (work and (work.environment == env or not env)) then work = raw_work(text_of_work, env) end
  if not work or work.environment == '' then return answer('unreadable') end
  if work.raw then  -- what it wanted is not known: its environment is looked at
    work.raw, work.key, work.cause, work.turned = nil, nil, 'resync', true
  end
  C('HDEL', dead_letters, id)
  local deliveries = {}
  for delivery in string.gmatch(work.deliveries or '', '[^,]+') do
    local key = delivery_record(delivery)
    if key then
      C('HSET', key, 'outcome', 'queued', 'reason', 'replayed', 'letter', '')
      C('HDEL', key, 'finished_at')
      C('PERSIST', key)
      deliveries[#deliveries + 1] = delivery
    end
  end
  work.deliveries = table.concat(deliveries, ',')
  work.attempts, work.tries, work.polls, work.goal = 0, '', 0, goal
  -- the world has moved on since it died: all but the wish itself is decided anew
  if work.environment == '*' then
    work.task = 'deployer.resync'
  else
    work.task = work.cause == 'event' and 'deployer.notify' or 'deployer.sync'  -- what watched goes on watching only
  end
  if not work.chosen then work.sha = '' end
  work.created, work.updated, work.recovered, work.replacing = false, false, false, false
  work.deletions, work.stack_arn, work.execution, work.not_before = 0, '', '', nil
  work = put(work, 'dead', ttl)
  return answer(work.goal, unpack(hand_out_after(work, grace)))
end

-- discard id -> 1 or 0
function ops.discard(id) return answer(C('HDEL', dead_letters, id)) end

-- refuse token, why, ttl, grace -> lost | refused|dead, the pause in ms, dispatch: the worker that holds this token does
-- not understand what it was handed, or not even the message
function ops.refuse(token, why, ttl, grace)
  local now_is = status()
  if held('token') ~= token or now_is == 'idle' then return answer('lost') end
  local key = held('env')
  local work = now_is == 'running' and current() or waiting(key)
  if now_is == 'running' then
    work.attempts = math.max(work.attempts - 1, 0)
  else
    C('HDEL', items, key)  -- it is still the first of the queue, which costs nothing without its item
  end
  local outcome, pause = 'refused', 0
  if work then outcome, pause = refuse(work, why, ttl) end
  return answer(outcome, string.format('%.0f', pause), unpack(hand_out(grace)))
end

local key, found, expected = misplaced(op)
if key then
  return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. found .. ' and has to be a ' .. expected)
end
-- a client that lost the answer repeats the request, and is answered the same
local request = ARGV[3] ~= '' and P .. ':answer:' .. ARGV[3]
local known = request and C('GET', request)
if known then return cjson.decode(known) end
local arguments = {}
for i = 4, #ARGV do arguments[#arguments + 1] = ARGV[i] end
local result = ops[op](unpack(arguments))
if result.err then return result end
if request and #result > 1 then  -- else nothing was done that a repeat would do twice
  C('SET', request, cjson.encode(result), 'PX', op == 'finish' and FINISH_REPEATED_MS or REPEATED_MS)
end
return result
