-- The rate limits of one of deployer's accounts at GitHub, shared by all processes.
--
-- KEYS[1] is a HASH of what GitHub's answers said: `limit`, `remaining`, `reset` (epoch seconds by GitHub's clock) and
-- `at` (ms) of each resource, as `RESOURCE:limit` and so on; `closed` (ms), until when GitHub refuses every request,
-- and `RESOURCE:closed`, until when it refuses those of one resource; `RESOURCE:points`, the points that may be used
-- at once, and `RESOURCE:counted` (ms), when they were counted.
-- KEYS[2] is a LIST: when each of the latest writes was made (ms), newest first.
-- KEYS[3] is a ZSET: when each account was last used (ms).
-- ARGV[1] is the order, ARGV[2] the account, ARGV[3] the resource, ARGV[4] an offset to the clock (ms; 0 except in
-- tests).
--
-- `enter`: ARGV[5] 1 for a write, ARGV[6] the points of the request, ARGV[7] the share of GitHub's limits to use,
--   ARGV[8] the longest wait (ms). Returns {1, the wait in ms}; or {0, the wait in ms} if the wait would be too long,
--   and then nothing was reserved.
-- `learn`: ARGV[5] to ARGV[7] limit, remaining and reset, ARGV[8] for how long GitHub refuses further requests (ms),
--   ARGV[9] `all` if that concerns every resource. Each is empty if the answer does not say it.

local C = redis.call
local order, account, resource = ARGV[1], ARGV[2], ARGV[3]
local clock = C('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000) + tonumber(ARGV[4])
local DAY = 86400000
-- GitHub's limits: a second between two writes, 900 points a minute (2,000 for GraphQL). What may be used at once and
-- what is added in a minute are together not more than the limit of a minute.
local APART = 1000
local COUNTED = 500 -- of the latest writes; GitHub allows so many in an hour, but not for all kinds of writes
local BURST = {core = 180, graphql = 400}
local ADDED = {core = 720 / 60000, graphql = 1600 / 60000}

local function number(field) return tonumber(C('HGET', KEYS[1], field)) end
local function whole(value) return string.format('%.0f', value) end

local function enter()
  local writes, points = ARGV[5] == '1', tonumber(ARGV[6])
  local share, longest = tonumber(ARGV[7]), tonumber(ARGV[8])
  local open = math.max(number('closed') or 0, number(resource .. ':closed') or 0)
  if open > now then return {0, open - now} end
  -- An Enterprise Server without rate limits names none, so its requests are not spaced.
  if not number(resource .. ':limit') then return {1, 0} end

  local at = now
  local burst, added = BURST[resource] or BURST.core, (ADDED[resource] or ADDED.core) * share
  local counted = number(resource .. ':counted') or now
  local left = (number(resource .. ':points') or burst) + math.max(now - counted, 0) * added
  left = math.min(left, burst) - points
  if left < 0 then at = now + math.ceil(-left / added) end
  if writes then
    local last = tonumber(C('LINDEX', KEYS[2], 0))
    if last then at = math.max(at, last + math.ceil(APART / share)) end
  end
  if at - now > longest then return {0, at - now} end
  C('HSET', KEYS[1], resource .. ':points', string.format('%.3f', left), resource .. ':counted', whole(now))
  if writes then
    C('LPUSH', KEYS[2], whole(at))
    C('LTRIM', KEYS[2], 0, COUNTED - 1)
    C('PEXPIRE', KEYS[2], DAY)
  end
  return {1, at - now}
end

local function learn()
  local limit, remaining, reset = ARGV[5], ARGV[6], ARGV[7]
  if limit ~= '' then
    -- Answers may arrive in another order than GitHub sent them: within one window the smallest number is the latest.
    local known = number(resource .. ':remaining')
    if known and number(resource .. ':reset') == tonumber(reset) then
      remaining = whole(math.min(known, tonumber(remaining)))
    end
    C('HSET', KEYS[1], resource .. ':limit', limit, resource .. ':remaining', remaining, resource .. ':reset', reset,
      resource .. ':at', whole(now))
  end
  if ARGV[8] ~= '' then
    local field = ARGV[9] == 'all' and 'closed' or resource .. ':closed'
    C('HSET', KEYS[1], field, whole(math.max(number(field) or 0, now + tonumber(ARGV[8]))))
  end
  C('PEXPIRE', KEYS[1], DAY)
  C('ZADD', KEYS[3], whole(now), account)
  C('ZREMRANGEBYSCORE', KEYS[3], '-inf', whole(now - DAY))
  C('PEXPIRE', KEYS[3], DAY)
  return {1, 0}
end

if order == 'enter' then return enter() end
return learn()
