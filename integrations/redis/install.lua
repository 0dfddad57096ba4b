-- Puts a rebuild in the place of a survey's totals, unless a later one is there; all or nothing.
-- KEYS: totals, shown, prepared, chunks, installs.
-- ARGV: epoch, number of bitmaps, channel, a token that was never used before, minimum step.
-- Answers: STALE and the epoch that is there; LOST where Redis dropped a part; OK and the epoch that was there (0: none).
local epoch = redis.call('HGET', KEYS[1], '@epoch') or '0'
if tonumber(epoch) >= tonumber(ARGV[1]) then return {'STALE', epoch} end
if redis.call('EXISTS', KEYS[3]) == 0 or redis.call('SCARD', KEYS[4]) ~= tonumber(ARGV[2]) then return {'LOST'} end
for _, bitmap in ipairs(redis.call('SMEMBERS', KEYS[4])) do
  if redis.call('EXISTS', bitmap) == 0 then return {'LOST'} end
end
redis.call('RENAME', KEYS[3], KEYS[1])

local ballots = tonumber(redis.call('HGET', KEYS[1], '@ballots'))
local shown = tonumber(redis.call('HGET', KEYS[2], '@ballots') or '0')
if ballots >= shown and ballots - shown < tonumber(ARGV[5]) and tonumber(ARGV[5]) > 1 then
  -- What the public sees stays as it is: a rebuild must not be the way to see one vote
  local marks = redis.call('HGETALL', KEYS[1])
  for i = 1, #marks, 2 do
    if string.sub(marks[i], 1, 1) == '@' then redis.call('HSET', KEYS[2], marks[i], marks[i + 1]) end
  end
  redis.call('HSET', KEYS[2], '@ballots', shown)
  redis.call('HSET', KEYS[1], '@shown', shown)
else
  redis.call('COPY', KEYS[1], KEYS[2], 'REPLACE')
end
redis.call('SET', KEYS[5], ARGV[4])
redis.call('PUBLISH', ARGV[3], ARGV[1] .. '-' .. redis.call('HGET', KEYS[1], '@seq'))
return {'OK', epoch}
