-- Ends queue items: gives deliveries their outcome, adds lines to the activity, stores dead letters.

local TOTALS = 'deployer:{-/-}:counters'  -- of all repositories; deployer/redis_store/records/counters.py
local ACTIVITY_LIMIT, ATTEMPTS_LIMIT, ERROR_LENGTH_LIMIT = 500, 20, 300
local WORKER_LOST = 'WorkerLost'  -- the kind of a dead letter whose item lost its worker at every attempt
local WORKER_LOST_ERROR = 'its worker was lost'
local ITEM_ERROR = 'QueueItemError'  -- the kind of a dead letter whose item no worker understood
local TRACEBACKS_LIMIT = 200  -- dead letters of a repository that keep their traceback
-- Items of these causes come from people and replace a waiting item with the same key. Other items join it.
local REPLACES = { push = true, deletion = true, redeploy = true, teardown = true }

-- A counter that holds no number stays as it is. It must not make the operation fail.
local function add_to_counter(name, by) redis.pcall('HINCRBY', TOTALS, name, by or 1) end

-- Add the end of an item to the activity.
local function add_activity(work, outcome, reason, commit)
  local line = cjson.encode({ at = now / 1000, repository = repository, environment = work.environment, goal = work.goal,
    outcome = outcome, reason = reason, commit = commit or work.sha or '', ref = work.ref or '' })
  call('LPUSH', PREFIX .. ':activity', line)
  call('LTRIM', PREFIX .. ':activity', 0, ACTIVITY_LIMIT - 1)
  list_activity(line, now_exactly())
end

-- Give every delivery of an item its outcome.
local function end_deliveries(work, outcome, reason, ttl)
  for id in string.gmatch(work.deliveries or '', '[^,]+') do
    local key = delivery_key(id)
    if key then
      call('HSET', key, 'outcome', outcome, 'reason', reason, 'finished_at', now / 1000)
      call('EXPIRE', key, ttl)
      add_to_counter('outcome:' .. outcome)
    end
  end
end

local function end_superseded(work, by, ttl)
  local reason = 'replaced by ' .. by
  end_deliveries(work, 'superseded', reason, ttl)
  -- An event or a resync without a delivery is not listed, because nobody waits for its end.
  if (work.deliveries or '') ~= '' or REPLACES[work.cause] then
    add_activity(work, 'superseded', reason)
  end
end

-- A text as one line of bounded length. It is cut between characters, because a part of a character cannot be decoded.
local function short_line(text)
  text = string.gsub(text, '%s+', ' ')
  local seen = 0
  for at = 1, #text do
    local byte = string.byte(text, at)
    if byte < 128 or byte >= 192 then seen = seen + 1 end
    if seen > ERROR_LENGTH_LIMIT then return string.sub(text, 1, at - 1) end
  end
  return text
end

-- Store a dead letter until a person decides about it. `ran` is the item as it was begun.
local function store_dead_letter(ran, letter)
  if call('HLEN', dead_letters) >= TRACEBACKS_LIMIT and letter.traceback ~= '' then
    letter.traceback = 'left out, since ' .. repository .. ' has ' .. TRACEBACKS_LIMIT .. ' dead letters or more'
  end
  local text = cjson.encode(letter)
  call('HSET', dead_letters, letter.id, text)
  list_letter(repository, letter.id, text)
  for delivery in string.gmatch(ran.deliveries or '', '[^,]+') do
    local key = delivery_key(delivery)
    if key then call('HSET', key, 'letter', letter.id) end
  end
end

-- Delete a dead letter; returns how many there were.
local function delete_dead_letter(id)
  list_letter(repository, id, nil)
  return call('HDEL', dead_letters, id)
end

-- End an item with a dead letter that the script makes itself.
local function end_as_dead_letter(work, kind, reason, suffix, ttl)
  end_deliveries(work, 'dead-lettered', reason, ttl)
  add_to_counter('goal:dead-lettered')
  store_dead_letter(work, { id = string.gsub(repository, '/', '~') .. '-' .. suffix, repository = repository,
    environment = work.environment, task = work.task, kind = kind, reason = reason, traceback = '', at = now / 1000,
    work = encode_item(work) })
  add_activity(work, 'dead-lettered', reason)
end

-- End an item that no worker understood with a dead letter.
local function end_unreadable(work, reason, ttl)
  local number = state_number('letters') + 1
  call('HSET', state, 'letters', number)
  call('HDEL', refused, item_key(work))
  end_as_dead_letter(work, ITEM_ERROR, reason, string.format('%.0f.%.0f', now, number), ttl)
end

-- Add the failed attempt at `ran` to `work`. Attempts are lines of JSON, because items hold no lists.
local function add_failed_attempt(work, ran, why)
  local lines = {}
  for line in string.gmatch(work.tries or '', '[^\n]+') do lines[#lines + 1] = line end
  lines[#lines + 1] = cjson.encode({ at = ran.began_at or 0, ['until'] = now / 1000, task = ran.task,
    error = short_line(why) })
  work.tries = table.concat(lines, '\n', math.max(#lines - ATTEMPTS_LIMIT, 0) + 1)
end
