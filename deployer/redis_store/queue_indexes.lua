-- Writes the indexes: when a queue is swept next, whether it has work, and what a stack or a delivery belongs to.

local DELIVERY_POINTER = 'deployer:delivery-of:'  -- + id of a delivery or a request; the name as in records/deliveries.py
local GOAL_TTL = 86400  -- a request without a delivery is found for a day

-- Let links, AWS's events and `delivery` find what an accepted item belongs to. The name of the last key is that of
-- HEARTBEAT_PREFIX (coordination.py).
local function write_indexes(full_name, stack_name, former_stack_name, work, delivery, ttl)
  call('HSET', SPELLED_NAMES, repository, full_name)
  if stack_name ~= '' then
    local environment = full_name .. '\n' .. work.environment
    call('HSET', STACK_NAMES, stack_name, environment)
    -- another branch may have the same former name, and must not take it over
    call('HSETNX', STACK_NAMES, former_stack_name, environment)
  end
  if delivery ~= '' then
    call('SET', DELIVERY_POINTER .. delivery, full_name, 'EX', ttl + 86400)
  elseif work.cause ~= 'age' and work.cause ~= 'event' then
    call('SET', DELIVERY_POINTER .. work.goal, full_name, 'EX', GOAL_TTL)
  end
  if work.cause == 'event' then
    call('SET', 'deployer:beat:event', string.format('%.6f', tonumber(clock[1]) + tonumber(clock[2]) / 1e6), 'EX', ttl)
  end
end

local IDLE_SWEEP_MS = 60000

local function next_sweep_at(status)
  if status ~= 'idle' then return state_number('until') end
  local first = call('ZRANGE', snoozed, 0, 0, 'WITHSCORES')
  local due = first[2] and tonumber(first[2])
  return due and is_finite(due) and due or now + IDLE_SWEEP_MS
end

-- After an operation: when the queue is swept next, and whether the list of the queues that have work contains it.
local function index_queue()
  -- `sweep` postpones the next sweep; every other operation can only bring it nearer
  local status, is_new = queue_status(), false
  if op == 'sweep' then
    is_new = call('ZADD', SWEEP_INDEX, math.min(next_sweep_at(status), now + IDLE_SWEEP_MS), repository) == 1
  else
    is_new = call('ZADD', SWEEP_INDEX, 'LT', next_sweep_at(status), repository) == 1
  end
  -- an earlier version does not list a new repository
  if is_new or op == 'sweep' then redis.pcall('ZADD', LIST .. 'repositories', 0, repository) end
  if status ~= 'idle' or call('EXISTS', items) == 1 then
    redis.pcall('ZADD', LIST .. 'lanes', 0, repository)
  else
    redis.pcall('ZREM', LIST .. 'lanes', repository)
  end
end
