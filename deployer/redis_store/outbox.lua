-- The senders' side of the outbox; queue_display.lua stores what is wanted. An index has the time (ms) at which a commit
-- is due. A sender that takes a commit moves that time into the future, so that another sender takes it only if the
-- first one dies.

local INDEX = KEYS[1]
local call = redis.call
local clock = call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000) + tonumber(ARGV[2])
local DISPLAY_SECONDS = 7 * 86400
local ops = {}

local function key_of(member)
  local repository, sha = string.match(member, '^(%S+) (%S+)$')
  return repository and 'deployer:{' .. repository .. '}:display:' .. sha
end

-- take limit, lease, sender -> member, its fields, ...
function ops.take(limit, lease, sender)
  local found = {}
  for _, member in ipairs(call('ZRANGEBYSCORE', INDEX, '-inf', now, 'LIMIT', 0, limit)) do
    local key = key_of(member)
    local fields = key and redis.pcall('HGETALL', key) or {}
    if fields.err or #fields == 0 then  -- it has expired
      call('ZREM', INDEX, member)
    else
      call('ZADD', INDEX, now + lease, member)
      call('HSET', key, 'sender', sender)
      found[#found + 1] = member
      found[#found + 1] = fields
    end
  end
  return found
end

-- shown member, sender, lease, place, what GitHub shows -> 1 or 0
function ops.shown(member, sender, lease, place, what)
  local key = key_of(member)
  call('HSET', key, 's ' .. place, what)
  call('EXPIRE', key, DISPLAY_SECONDS)
  if call('HGET', key, 'sender') == sender then
    call('ZADD', INDEX, now + lease, member)
    return 1
  end
  -- another sender has the commit, and may have posted something newer before this
  call('HINCRBY', key, 'changes', 1)
  call('ZADD', INDEX, 'NX', now, member)
  return 0
end

-- release member, sender, changes, milliseconds until the rest is due or '', error, 1 if that counts as a failure
function ops.release(member, sender, changes, rest, error, failed)
  local key = key_of(member)
  if call('HGET', key, 'sender') ~= sender then return 0 end
  call('HDEL', key, 'sender')
  if error ~= '' then
    call('HSET', key, 'error', error)
    call('HINCRBY', key, 'failures', failed)
  else
    call('HDEL', key, 'error', 'failures')
  end
  local changed = (call('HGET', key, 'changes') or '0') ~= changes
  if error ~= '' or (rest ~= '' and not changed) then
    call('ZADD', INDEX, now + tonumber(rest), member)
  elseif changed then
    call('ZADD', INDEX, now, member)
  else
    call('ZREM', INDEX, member)
  end
  return 1
end

local arguments = {}
for i = 3, #ARGV do arguments[#arguments + 1] = ARGV[i] end
return ops[ARGV[1]](unpack(arguments))
