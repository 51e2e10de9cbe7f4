-- How work ends: outcomes of deliveries, the activity, dead letters.

local ACTIVITY_LIMIT, TRIES_LIMIT, ERROR_LIMIT = 500, 20, 300
local LOST = 'WorkerLost'  -- the kind of dead letter of what ended with its worker each time: no exception tells of it
local LOST_ERROR = 'its worker was lost'
local UNKNOWN = 'QueueItemError'  -- the kind of dead letter of an item that no worker understood
local TRACED_LETTERS = 200  -- dead letters of a repository that have a traceback; those beyond do without
-- work of these causes comes from people and takes the place of what waits; any other joins it
local REPLACES = { push = true, deletion = true, redeploy = true, teardown = true }

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

-- note with `work` that the attempt at `ran` has ended badly; lines of JSON, since work holds no lists
local function note_try(work, ran, why)
  local lines = {}
  for line in string.gmatch(work.tries or '', '[^\n]+') do lines[#lines + 1] = line end
  lines[#lines + 1] = cjson.encode({ at = ran.began_at or 0, ['until'] = now / 1000, task = ran.task, error = brief(why) })
  work.tries = table.concat(lines, '\n', math.max(#lines - TRIES_LIMIT, 0) + 1)
end
