-- Writes the indexes that lead from a stack, a delivery or a repository's key to what an accepted item belongs to.

-- Let links, AWS's events and `delivery` find what an accepted item belongs to. The names of the last two keys are those of
-- DELIVERY_POINTER (records/deliveries.py) and HEARTBEAT_PREFIX (coordination.py).
local function write_indexes(full_name, stack_name, former_stack_name, work, delivery, ttl)
  call('HSET', SPELLED_NAMES, repository, full_name)
  if stack_name ~= '' then
    local environment = full_name .. '\n' .. work.environment
    call('HSET', STACK_NAMES, stack_name, environment)
    -- another branch may have the same former name, and must not take it over
    call('HSETNX', STACK_NAMES, former_stack_name, environment)
  end
  if delivery ~= '' then call('SET', 'deployer:delivery-of:' .. delivery, full_name, 'EX', ttl + 86400) end
  if work.cause == 'event' then
    call('SET', 'deployer:beat:event', string.format('%.6f', tonumber(clock[1]) + tonumber(clock[2]) / 1e6), 'EX', ttl)
  end
end
