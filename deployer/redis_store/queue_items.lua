-- What the script of a lane reads, checked before the script writes anything: Redis does not undo the writes of a script
-- that fails half-way. This text comes before queue.lua, and both are one script.
--
-- The text of a queue item can be something else than this script expects: another version wrote it, or a person did.
-- Such an item is kept as it is (`raw`) and handed out all the same, since a newer worker may understand it.

local P = KEYS[1]
local C = redis.call
local op = ARGV[1]
local clock = C('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000) + tonumber(ARGV[2])
local repository = string.match(P, '{(.*)}')
local queue, later = P .. ':queue', P .. ':later'
local items, snoozed, state = P .. ':items', P .. ':snoozed', P .. ':state'
local environments, dead_letters, refused = P .. ':environments', P .. ':dead', P .. ':refused'
local FALLBACK = 'deployer.sync'  -- the task of an item that names none: every worker knows it
local REQUIRED = { 'environment', 'task', 'cause' }
-- the fields that this script reads, with the default that a missing one has
local TEXTS = { 'goal', 'deliveries', 'ref', 'before', 'after', 'word', 'sha', 'tries', 'replaced_after' }
local NUMBERS = { 'pushed_at', 'accepted_at', 'decided_at', 'attempts', 'polls', 'looked_at', 'replaced_at', 'began_at' }
local DEFAULTS, FIELD_TYPES = {}, { not_before = 'number', candidate = 'boolean' }
for _, name in ipairs(TEXTS) do DEFAULTS[name], FIELD_TYPES[name] = '', 'string' end
for _, name in ipairs(NUMBERS) do DEFAULTS[name], FIELD_TYPES[name] = 0, 'number' end

local function type_of(key)
  local found = C('TYPE', key)
  return found.ok or found
end

-- the keys of the lane that an operation writes, as far as a wrong type would make it fail: the type of each is checked
-- first. A counter may fail alone
local STATE = { state = 'hash' }
local MOVED = { state = 'hash', items = 'hash', queue = 'list', later = 'list', snoozed = 'zset', refused = 'hash',
  dead = 'hash', activity = 'list' }
local ENDED = { environments = 'hash', kept = 'hash' }
for name, kind in pairs(MOVED) do ENDED[name] = kind end
-- `begin` checks what `finish` writes, because a task must not change anything in AWS if its end cannot be recorded
local WRITTEN = { extend = STATE, begin = ENDED, finish = ENDED, forget = ENDED }

-- the first key that is not of its type, with the type it has and the one that is expected; or nil
local function misplaced(op)
  for name, expected in pairs(WRITTEN[op] or MOVED) do
    local found = type_of(P .. ':' .. name)
    if found ~= 'none' and found ~= expected then return P .. ':' .. name, found, expected end
  end
end

local function is_finite(number) return number == number and math.abs(number) < math.huge end

-- a JSON object as a table, or nil
local function object(text)
  local read, found = pcall(cjson.decode, text)
  return read and type(found) == 'table' and found or nil
end

-- The key of a queue item. A candidate for production waits under a key of its own until it is judged, so that different
-- tags never replace each other; all other work of an environment shares one key. No ref contains a space.
local function item_key(work)
  if work.raw then return work.key end
  return work.candidate and work.environment .. ' ' .. work.ref or work.environment
end

-- the environment that a key of a queue item names
local function environment_of(key) return string.match(key, '^[^ ]*') end

-- the queue item with this key, or with any key, as a table in which every field that this script reads has its type; or nil
local function sound_work(text, key)
  local work = object(text)
  if not work then return nil end
  for _, name in ipairs(REQUIRED) do
    if type(work[name]) ~= 'string' then return nil end
  end
  for name, value in pairs(work) do
    local found, expected = type(value), FIELD_TYPES[name]
    if expected and found ~= expected then return nil end
    if found == 'number' and not is_finite(value) then return nil end
    if found == 'table' and not pcall(cjson.encode, value) then return nil end
  end
  for name, default in pairs(DEFAULTS) do
    if work[name] == nil then work[name] = default end
  end
  if key and item_key(work) ~= key then return nil end
  return work
end

-- a queue item that cannot be read, as a table: only what its text shows
local function raw_work(text, key)
  local work = { environment = environment_of(key or ''), key = key or '', task = FALLBACK, cause = '', raw = text }
  for name, default in pairs(DEFAULTS) do work[name] = default end
  work.deliveries = string.match(text, '"deliveries":"([^"]*)"') or ''
  return work
end

local function read_work(text, key) return sound_work(text, key) or raw_work(text, key) end

local function written(work) return work.raw or cjson.encode(work) end

-- the item with this key that waits or sleeps, or nil
local function waiting(key)
  local text = C('HGET', items, key)
  return text and read_work(text, key)
end

local function held(field) return C('HGET', state, field) or '' end

local function held_number(field)
  local found = tonumber(held(field))
  return found and is_finite(found) and found or 0
end

local KNOWN_STATUS = { [''] = 'idle', idle = 'idle', sent = 'sent', running = 'running' }

-- who holds the lane; where that cannot be read, whether an item is left with a worker
local function status()
  local found = KNOWN_STATUS[held('status')] or (held('current') ~= '' and 'running' or 'idle')
  if found == 'sent' and not string.match(held('token'), '^%d+$') then return 'idle' end  -- nobody can begin it
  return found
end

-- the item that runs
local function current()
  local text = held('current')
  local work = sound_work(text)
  return work or raw_work(text, held('env'))
end

-- the key of a delivery's record if there is one; it may have expired
local function delivery_record(id)
  local key = P .. ':delivery:' .. id
  return type_of(key) == 'hash' and key or nil
end
