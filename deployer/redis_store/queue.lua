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

local op = ARGV[1]
local clock = C('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000) + tonumber(ARGV[2])
local repository = string.match(P, '{(.*)}')
local IDLE_LOOK, ACTIVITY_LIMIT, BEFORE_LIMIT = 60000, 500, 400
local TRIES_LIMIT, ERROR_LIMIT = 20, 300
local LOST = 'WorkerLost'  -- the kind of dead letter of what ended with its worker each time: no exception tells of it
local LOST_ERROR = 'its worker was lost'
local UNKNOWN = 'QueueItemError'  -- the kind of dead letter of an item that no worker understood
local REFUSALS, FIRST_PAUSE, LONGEST_PAUSE = 8, 10000, 300000  -- a quarter of an hour: a rolling update takes less
local DELIVERIES_LIMIT = 50  -- that one item lists; an environment may get thousands of events while its lane waits
local TRACED_LETTERS = 200  -- dead letters of a repository that have a traceback; those beyond do without
local REPEATED_MS, FINISH_REPEATED_MS = 15000, 300000  -- a client repeats at once; a worker's verdict waits for Redis
local UNTRIED = { [LOST] = true, TaskTimeout = true }  -- who makes such a letter only tells of it
-- work of these causes comes from people and takes the place of what waits; any other joins it
local REPLACES = { push = true, deletion = true, redeploy = true, teardown = true }
-- a delivery with such an outcome may come again, as GitHub's *Redeliver* sends it
local REPEATABLE = { failed = true, ['dead-lettered'] = true, ignored = true }

-- a counter that holds no number stays as it is: nothing else is to fail because of it
local function count(name, by) redis.pcall('HINCRBY', P .. ':counters', name, by or 1) end

-- add the end of some work to the activity
local function list_end(work, outcome, reason, commit)
  C('LPUSH', P .. ':activity', cjson.encode({ at = now / 1000, repository = repository,
    environment = work.environment, goal = work.goal, outcome = outcome, reason = reason, commit = commit or work.sha or '',
    ref = work.ref or '' }))
  C('LTRIM', P .. ':activity', 0, ACTIVITY_LIMIT - 1)
end

-- give every delivery that waits for this work its outcome
local function close(work, outcome, reason, ttl)
  for id in string.gmatch(work.deliveries or '', '[^,]+') do
    local key = delivery_record(id)
    if key then
      C('HSET', key, 'outcome', outcome, 'reason', reason, 'finished_at', now / 1000)
      C('EXPIRE', key, ttl)
      count('outcome:' .. outcome)
    end
  end
end

local function superseded(work, by, ttl)
  local reason = 'replaced by ' .. by
  close(work, 'superseded', reason, ttl)
  -- nobody waits for the end of what only looks; a person may wait for what was asked without a delivery
  if (work.deliveries or '') ~= '' or REPLACES[work.cause] then
    list_end(work, 'superseded', reason)
  end
end

-- an error in one line of bounded length; it is cut between characters, since half of one cannot be read back
local function brief(text)
  text = string.gsub(text, '%s+', ' ')
  local seen = 0
  for at = 1, #text do
    local byte = string.byte(text, at)
    if byte < 128 or byte >= 192 then seen = seen + 1 end
    if seen > ERROR_LIMIT then return string.sub(text, 1, at - 1) end
  end
  return text
end

-- keep what died until a person decides; `ran` is the work as it was begun
local function bury(ran, letter)
  if C('HLEN', dead_letters) >= TRACED_LETTERS and letter.traceback ~= '' then
    letter.traceback = 'left out, since ' .. repository .. ' has ' .. TRACED_LETTERS .. ' dead letters or more'
  end
  C('HSET', dead_letters, letter.id, cjson.encode(letter))
  for delivery in string.gmatch(ran.deliveries or '', '[^,]+') do
    local key = delivery_record(delivery)
    if key then C('HSET', key, 'letter', letter.id) end
  end
end

-- end work by a dead letter that no worker wrote
local function die(work, kind, reason, suffix, ttl)
  close(work, 'dead-lettered', reason, ttl)
  count('goal:dead-lettered')
  bury(work, { id = string.gsub(repository, '/', '~') .. '-' .. suffix, repository = repository,
    environment = work.environment, task = work.task, kind = kind, reason = reason, traceback = '', at = now / 1000,
    work = written(work) })
  list_end(work, 'dead-lettered', reason)
end

-- end an item that cannot be read
local function die_unread(work, reason, ttl)
  local number = held_number('letters') + 1
  C('HSET', state, 'letters', number)
  C('HDEL', refused, item_key(work))
  die(work, UNKNOWN, reason, string.format('%.0f.%.0f', now, number), ttl)
end

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

-- note with `work` that the attempt at `ran` has ended badly; lines of JSON, since work holds no lists
local function note_try(work, ran, why)
  local lines = {}
  for line in string.gmatch(work.tries or '', '[^\n]+') do lines[#lines + 1] = line end
  lines[#lines + 1] = cjson.encode({ at = ran.began_at or 0, ['until'] = now / 1000, task = ran.task, error = brief(why) })
  work.tries = table.concat(lines, '\n', math.max(#lines - TRIES_LIMIT, 0) + 1)
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
  local with_items = {}
  if status() == 'running' then with_items[current().environment] = true end
  for _, key in ipairs(C('HKEYS', items)) do with_items[environment_of(key)] = true end
  for env, at in pairs(cjson.decode(seen)) do
    local record = object(C('HGET', environments, env) or '')
    local same = record and (record.updated_at or 0) == at
    if same and not with_items[env] then C('HDEL', environments, env) end
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
