-- Reads queue items and the state of the queue, and checks everything that may have another form than expected. An
-- operation reads all that it needs before its first write, because Redis does not undo the writes of a failed script.
--
-- Another version, or a person, may have written an item that this script cannot read. The script keeps the text of such
-- an item unchanged (`raw`) and hands it out all the same, because a newer worker may understand it.

local PREFIX, SWEEP_INDEX, SPELLED_NAMES, STACK_NAMES = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call = redis.call
local op = ARGV[1]
local clock = call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000) + tonumber(ARGV[2])
-- The present time in epoch seconds with microseconds, in the order in which operations run.
local function now_exactly() return string.format('%.6f', now / 1000 + tonumber(clock[2]) % 1000 / 1e6) end
local repository = string.match(PREFIX, '{(.*)}')
local queue, later = PREFIX .. ':queue', PREFIX .. ':later'
local items, snoozed, state = PREFIX .. ':items', PREFIX .. ':snoozed', PREFIX .. ':state'
local rounds = PREFIX .. ':rounds'
local environments, dead_letters, refused = PREFIX .. ':environments', PREFIX .. ':dead', PREFIX .. ':refused'
local FALLBACK_TASK = 'deployer.sync'  -- the task of an unreadable item: every worker knows it
local REQUIRED = { 'environment', 'task', 'cause' }
-- the fields that this script reads, with the default of a missing one
local TEXT_FIELDS = { 'goal', 'deliveries', 'ref', 'before', 'after', 'word', 'sha', 'tries', 'replaced_after',
  'sender' }
local NUMBER_FIELDS = { 'pushed_at', 'accepted_at', 'decided_at', 'attempts', 'polls', 'looked_at', 'replaced_at',
  'began_at' }
local DEFAULTS, FIELD_TYPES = {}, { not_before = 'number', candidate = 'boolean' }
for _, name in ipairs(TEXT_FIELDS) do DEFAULTS[name], FIELD_TYPES[name] = '', 'string' end
for _, name in ipairs(NUMBER_FIELDS) do DEFAULTS[name], FIELD_TYPES[name] = 0, 'number' end

local function type_of(key)
  local found = call('TYPE', key)
  return found.ok or found
end

-- The keys that an operation writes and that would make it fail if they had another type. Counters are not among them,
-- because a counter that fails stops nothing else.
local STATE_KEY = { state = 'hash' }
local QUEUE_KEYS = { state = 'hash', items = 'hash', queue = 'list', later = 'list', snoozed = 'zset', rounds = 'zset',
  refused = 'hash', dead = 'hash', activity = 'list' }
local ALL_KEYS = { environments = 'hash', kept = 'hash' }
for name, kind in pairs(QUEUE_KEYS) do ALL_KEYS[name] = kind end
-- `begin` checks what `finish` writes, because a task must not change AWS if its result cannot be recorded.
local WRITTEN_KEYS = { extend = STATE_KEY, begin = ALL_KEYS, finish = ALL_KEYS, forget = ALL_KEYS }
-- The keys that all queues share and that every operation, `accept`, or `accept` with the name of a stack writes.
local INDEX_KEYS = { [SWEEP_INDEX] = 'zset' }
local NAME_KEYS = { [SWEEP_INDEX] = 'zset', [SPELLED_NAMES] = 'hash' }
local STACK_KEYS = { [SWEEP_INDEX] = 'zset', [SPELLED_NAMES] = 'hash', [STACK_NAMES] = 'hash' }

-- The first key of a wrong type, its type and the expected type; or nil.
local function first_key_of_wrong_type(op, stack_name)
  local shared = op ~= 'accept' and INDEX_KEYS or stack_name == '' and NAME_KEYS or STACK_KEYS
  for key, expected in pairs(shared) do
    local found = type_of(key)
    if found ~= 'none' and found ~= expected then return key, found, expected end
  end
  for name, expected in pairs(WRITTEN_KEYS[op] or QUEUE_KEYS) do
    local found = type_of(PREFIX .. ':' .. name)
    if found ~= 'none' and found ~= expected then return PREFIX .. ':' .. name, found, expected end
  end
end

local function is_finite(number) return number == number and math.abs(number) < math.huge end

-- A JSON object as a table; nil if the text is not a JSON object.
local function decode_object(text)
  local read, found = pcall(cjson.decode, text)
  return read and type(found) == 'table' and found or nil
end

-- The key of a queue item. A candidate is a tag for production that has not been checked yet. It has a key of its own, so
-- that different tags never replace each other. All other items of an environment have the same key. No ref contains a
-- space.
local function item_key(work)
  if work.raw then return work.key end
  return work.candidate and work.environment .. ' ' .. work.ref or work.environment
end

-- The key of the environment that the key of a queue item names.
local function environment_of_key(key) return string.match(key, '^[^ ]*') end

-- A queue item as a table in which every field that this script reads has its type. Nil if the text is no such item, or
-- has another key than the given one.
local function decode_item(text, key)
  local work = decode_object(text)
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

-- A queue item that cannot be read, as a table with what can be found in its text.
local function unreadable_item(text, key)
  local work = { environment = environment_of_key(key or ''), key = key or '', task = FALLBACK_TASK, cause = '',
    raw = text }
  for name, default in pairs(DEFAULTS) do work[name] = default end
  work.deliveries = string.match(text, '"deliveries":"([^"]*)"') or ''
  return work
end

local function read_item(text, key) return decode_item(text, key) or unreadable_item(text, key) end

local function encode_item(work) return work.raw or cjson.encode(work) end

-- The waiting or snoozed item with this key, or nil.
local function waiting_item(key)
  local text = call('HGET', items, key)
  return text and read_item(text, key)
end

local function state_field(field) return call('HGET', state, field) or '' end

local function state_number(field)
  local found = tonumber(state_field(field))
  return found and is_finite(found) and found or 0
end

local KNOWN_STATUS = { [''] = 'idle', idle = 'idle', sent = 'sent', running = 'running' }

-- The status of the queue. If it cannot be read, the queue is running if the state has an item.
local function queue_status()
  local found = KNOWN_STATUS[state_field('status')] or (state_field('current') ~= '' and 'running' or 'idle')
  -- without a token nobody can begin the item
  if found == 'sent' and not string.match(state_field('token'), '^%d+$') then return 'idle' end
  return found
end

-- The running item.
local function running_item()
  local text = state_field('current')
  local work = decode_item(text)
  return work or unreadable_item(text, state_field('env'))
end

-- The key of a delivery's record; nil if there is none, because it may have expired.
local function delivery_key(id)
  local key = PREFIX .. ':delivery:' .. id
  return type_of(key) == 'hash' and key or nil
end
