-- A token bucket for one operation in one region of an account, shared by all workers.
--
-- KEYS[1] is a HASH: tokens, at (when they were counted, ms), pace (the share of the rate in force, 1 or less) and
-- slowed (when the pace was last lowered, ms).
-- ARGV: `acquire` or `slow_down`, tokens per second, the capacity of the bucket, the longest wait (ms), an offset to
-- the clock (ms; 0 except in tests).
-- The number of tokens may be negative: a caller that finds none reserves a later one and waits for it, so callers
-- keep their order.
-- Returns {1, the wait in ms}, or {0, the wait in ms} if the wait would be too long; then no token was taken.

local C = redis.call
local op, rate, burst = ARGV[1], tonumber(ARGV[2]) / 1000, tonumber(ARGV[3])
local longest = tonumber(ARGV[4])
local clock = C('TIME')
local now = tonumber(clock[1]) * 1000 + tonumber(clock[2]) / 1000 + tonumber(ARGV[5])
local SLOWEST, RECOVERY, APART, KEPT = 1 / 16, 60000, 1000, 900000

local held = C('HMGET', KEYS[1], 'tokens', 'at', 'pace', 'slowed')
local tokens, at = tonumber(held[1]) or burst, tonumber(held[2]) or now
local pace, slowed = tonumber(held[3]) or 1, tonumber(held[4]) or 0
local passed = math.max(now - at, 0)
local recovered = math.min(pace + passed / RECOVERY, 1)
tokens = math.min(tokens + passed * rate * (pace + recovered) / 2, burst)
pace = recovered

local taken, wait = 1, 0
if op == 'slow_down' then
  -- Calls that were in progress at the same time may all be throttled. Together they lower the pace once.
  if now - slowed >= APART then
    pace, slowed = math.max(pace / 2, SLOWEST), now
  end
  tokens = math.min(tokens, 0)
else
  if tokens < 1 then wait = math.ceil((1 - tokens) / (rate * pace)) end
  if wait > longest then
    taken = 0
  else
    tokens = tokens - 1
  end
end

local function text(number) return string.format('%.4f', number) end
C('HSET', KEYS[1], 'tokens', text(tokens), 'at', text(now), 'pace', text(pace), 'slowed', text(slowed))
C('PEXPIRE', KEYS[1], KEPT)
return {taken, wait}
