-- Stores what GitHub should show (see deployer/outbox/): one hash for each commit, and an index of the commits whose
-- display may differ from what is wanted. The fields of the hash:
--   "w <environment> <place>"  since when it is wanted (ms), a space, and what: a JSON object
--   "s <place>"                what GitHub shows there: a JSON object
--   changes, sender, failures, error

local DISPLAY_SECONDS = 7 * 86400  -- after its last change a display is dropped, also if GitHub never took it

-- A display that cannot be written must not make an operation of the queue fail.
local function store_display(env, text)
  if (text or '') == '' then return end
  for _, change in ipairs(cjson.decode(text)) do
    local sha, place, wanted = change[1], change[2], change[3]
    local key, field = PREFIX .. ':display:' .. sha, 'w ' .. env .. ' ' .. place
    local stored = redis.pcall('HGET', key, field)
    local before = type(stored) == 'string' and string.match(stored, '^%d+ (.*)$')
    if type(stored) ~= 'table' and before ~= wanted then
      call('HSET', key, field, string.format('%.0f', now) .. ' ' .. wanted)
      call('HINCRBY', key, 'changes', 1)
      call('EXPIRE', key, DISPLAY_SECONDS)
      -- a sender that has the commit notices the change, and a commit whose posting has failed is not due sooner
      local taken = call('HEXISTS', key, 'sender') + call('HEXISTS', key, 'error') > 0
      redis.pcall('ZADD', OUTBOX_INDEX, taken and 'NX' or 'LT', now, repository .. ' ' .. sha)
    end
  end
end
