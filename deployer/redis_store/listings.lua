-- Keeps the lists by which readers find environments, dead letters and repositories without reading every record. An entry
-- (a record) and the lists that contain it are changed in one step. deployer/redis_store/records/listings.py has the keys.
--
-- All of it can be computed again from the records, so an error here stops no operation.

local LISTED, LIST_NAMES, LIST = 'deployer:listed', 'deployer:list-names', 'deployer:list:'
local EXPIRY_CHECKS = 'deployer:expiry-checks'
local ACTIVITY, ALL_ACTIVITY_LIMIT = 'deployer:activity', 500

local function decode_table(text)
  local read, found = pcall(cjson.decode, text)
  return read and type(found) == 'table' and found or {}
end

-- The name of a list and the member that an entry has there, of which `place` is the name, and what the member has added.
local function split_place(entry, place)
  local name, more = string.match(place, '^([^\n]*)(.*)$')
  return name, string.match(entry, '\n(.*)$') .. more
end

local function enter_list(name, member, score)
  redis.pcall('SADD', LIST_NAMES, name)
  redis.pcall('ZADD', LIST .. name, score, member)
end

local function leave_list(name, member)
  redis.pcall('ZREM', LIST .. name, member)
  if redis.pcall('EXISTS', LIST .. name) == 0 then redis.pcall('SREM', LIST_NAMES, name) end
end

-- Let an entry be in the lists that `listed` names and in no others; in none if it is empty. `listed` has three lines: the
-- version of the record, the score of the members, and a JSON array of places.
-- Returns whether this version was not listed before.
local function list_entry(entry, listed)
  local before = redis.pcall('HGET', LISTED, entry)
  if type(before) ~= 'string' then before = '' end
  if before == listed then return false end
  local lists, former = string.match(listed, '\n(.*)$') or '', string.match(before, '\n(.*)$') or ''
  if lists ~= former then
    local score, places = string.match(lists, '^([^\n]*)\n(.*)$')
    local stays = {}
    for _, place in ipairs(decode_table(places or '')) do
      local name, member = split_place(entry, place)
      stays[place] = true
      enter_list(name, member, score)
    end
    for _, place in ipairs(decode_table(string.match(former, '\n(.*)$') or '')) do
      if not stays[place] then leave_list(split_place(entry, place)) end
    end
  end
  if listed == '' then redis.pcall('HDEL', LISTED, entry) else redis.pcall('HSET', LISTED, entry, listed) end
  return true
end

-- List an environment. A new version of its record is checked for its expiry next (`at`, epoch seconds).
local function list_environment(repository, key, listed, at)
  local member = repository .. '\n' .. key
  if list_entry('environment\n' .. member, listed) then
    if listed == '' then
      redis.pcall('ZREM', EXPIRY_CHECKS, member)
    elseif string.sub(key, 1, 12) == 'development:' then
      redis.pcall('ZADD', EXPIRY_CHECKS, at, member)
    end
  end
end

-- Check the expiries of all environments of a repository next, because what its state forbade is allowed now.
local function check_expiries(repository, at)
  local members = redis.pcall('ZRANGEBYLEX', LIST .. 'all', '[' .. repository .. '\n', '(' .. repository .. '\011')
  for _, member in ipairs(members) do
    if string.find(member, '\ndevelopment:', 1, true) then redis.pcall('ZADD', EXPIRY_CHECKS, at, member) end
  end
end

-- List a dead letter: its id, and its text or nil.
local function list_letter(repository, id, text)
  if not text then return list_entry('letter\n' .. repository .. '\n' .. id, '') end
  local letter = decode_table(text)
  local kind = type(letter.kind) == 'string' and letter.kind or 'StoredValueError'
  local at = type(letter.at) == 'number' and letter.at or (tonumber(string.match(id, '-(%d+)$') or '') or 0) / 1000
  if at ~= at or math.abs(at) == math.huge then at = 0 end
  local places = { 'dead', 'dead ' .. repository, 'dead ' .. repository .. ' ' .. string.gsub(kind, '\n', ' ') }
  list_entry('letter\n' .. repository .. '\n' .. id, '\n' .. string.format('%.3f', at) .. '\n' .. cjson.encode(places))
end

local function list_activity(line, at)
  redis.pcall('ZADD', ACTIVITY, 'NX', at, line)
  redis.pcall('ZREMRANGEBYRANK', ACTIVITY, 0, -ALL_ACTIVITY_LIMIT - 1)
end
