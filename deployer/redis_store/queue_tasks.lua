-- The operations of workers: they begin the item of a message, extend its lease, and return its result.

local REPORT_ONLY = { [WORKER_LOST] = true, TaskTimeout = true }  -- the attempt that makes such a letter only reports it

-- Celery's lists of messages by their priority, and the messages that workers have fetched and not begun. The names are those
-- of kombu.
local MESSAGES, LOW_MESSAGES, FETCHED_MESSAGES = 'deployer', 'deployer\006\0229', 'unacked'

-- The reply of an operation. A dispatch at its end, of four values, is followed by the repository's name as last spelled.
local function reply(...) return { ... } end

-- A text as it stands in a JSON string.
local function json_text(text) return (string.gsub(string.sub(cjson.encode(text), 2, -2), '\\/', '/')) end

-- Send Celery's message to the list of its priority. If that fails, the message counts as lost and is sent again.
local function send_message(key, task, token, low, name)
  local arguments = '["' .. json_text(name) .. '", "' .. json_text(key) .. '", ' .. token .. ']'
  local values = { arguments = json_text(arguments), task = json_text(task), priority = low == '1' and '9' or '0',
    id = repository .. '-' .. token .. (low == '1' and '-low' or '') }
  redis.pcall('LPUSH', low == '1' and LOW_MESSAGES or MESSAGES, (string.gsub(MESSAGE, '@(%l+)@', values)))
end

local function dispatched(dispatch)
  if #dispatch == 0 then return end
  local name = redis.pcall('HGET', SPELLED_NAMES, repository)
  dispatch[#dispatch + 1] = type(name) == 'string' and name or repository
  -- the scheduler sends those of a sweep, but not if too many messages wait
  if MESSAGE == '' or op == 'sweep' then return unpack(dispatch) end
  send_message(unpack(dispatch))
end

-- Whether a message of another queue waits for a worker: in one of Celery's lists, or in a worker whose processes are busy.
local function other_messages_wait()
  for command, keys in pairs({ LLEN = { MESSAGES, LOW_MESSAGES }, HLEN = { FETCHED_MESSAGES } }) do
    for _, key in ipairs(keys) do
      if redis.pcall(command, key) ~= 0 then return true end
    end
  end
  return false
end

local INVALID_ITEM = redis.error_reply('ERR a field of the given queue item has another type, or a number is not finite')
local ops = {}

-- Begin the sent item. `message` is the token of the message whose worker begins it. It is stored together with the item's
-- own token, so that a value that an earlier item left is recognised.
local function begin_first(message, token, lease)
  local key = call('LPOP', queue)
  local work = key and waiting_item(key)
  if not work then
    call('HSET', state, 'status', 'idle', 'until', 0)
    return nil
  end
  call('HDEL', items, key)
  work.attempts, work.not_before, work.began_at = work.attempts + 1, nil, now / 1000
  local text = encode_item(work)
  call('HSET', state, 'status', 'running', 'current', text, 'until', now + lease, 'why', '', 'message',
    message .. ' ' .. token)
  return text
end

-- The token of the message whose worker holds the queue. It is that of an earlier item if the worker has taken this one
-- from the queue itself.
local function message_token()
  local message, token = string.match(state_field('message'), '^(%d+) (%d+)$')
  return token == state_field('token') and message or state_field('token')
end

-- begin token, lease -> work
function ops.begin(token, lease)
  if state_field('token') ~= token or queue_status() ~= 'sent' then return reply() end
  return reply(begin_first(token, token, lease))
end

-- extend token, lease -> 1 or 0
function ops.extend(token, lease)
  if state_field('token') ~= token or queue_status() ~= 'running' then return reply(0) end
  call('HSET', state, 'until', now + lease)
  return reply(1)
end

-- expire token, key, why -> 1 or 0: end the lease now, because the process that got the message with this token and key
-- has ended
function ops.expire(token, key, why)
  local running = queue_status() == 'running'
  if running and message_token() == token then
    call('HSET', state, 'until', now, 'why', why)
    return reply(1)
  end
  local lost, lost_key = string.match(state_field('lost'), '^(%d+) ?(.*)$')
  if lost ~= token then return reply(0) end
  if lost_key ~= '' then key = lost_key end  -- the worker may have taken a later item from the queue
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

-- finish token, kind, work, record, listed, seconds, outcome, reason, commit, letter, counts, ttl, grace, next_item, lease
-- -> lost | finished, dispatch | begun, token, work
function ops.finish(token, kind, text, record, listed, seconds, outcome, reason, commit, letter, counts, ttl, grace,
    next_item, lease)
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
  if record ~= '' then
    call('HSET', environments, env, record)
    list_environment(repository, env, listed, string.format('%.3f', now / 1000))
  end
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
  local message, dispatch = message_token(), dispatch_next(grace)
  local _, _, next_token, low = unpack(dispatch)
  if next_token and (next_item == 'take' and low == '0' or next_item ~= '' and not other_messages_wait()) then
    return reply('begun', next_token, begin_first(message, next_token, lease))
  end
  return reply('finished', dispatched(dispatch))
end

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
