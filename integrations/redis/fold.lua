-- Adds batches to a survey's totals, each once ever, in any order; all of the call or nothing.
-- KEYS: totals, shown, chunks, then bitmaps.
-- ARGV: epoch, partition, offset after these batches, minimum step, channel, ballots, number of batches,
--       per batch the index of its bitmap in KEYS and its bit, then pairs of field and votes.
-- Answers: MISSING; EPOCH and the one that is there; SEEN and which batches (from 0) were counted before, with
-- nothing changed; OK and the sequence number.
local epoch = redis.call('HGET', KEYS[1], '@epoch')
if not epoch then return {'MISSING'} end
if epoch ~= ARGV[1] then return {'EPOCH', epoch} end

local batches = tonumber(ARGV[7])
local seen = {}
for i = 0, batches - 1 do
  if redis.call('GETBIT', KEYS[tonumber(ARGV[8 + 2 * i])], ARGV[9 + 2 * i]) == 1 then seen[#seen + 1] = i end
end
if #seen > 0 then return {'SEEN', seen} end

local offset = redis.call('HGET', KEYS[1], '@offset:' .. ARGV[2])
if not offset or tonumber(offset) < tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], '@offset:' .. ARGV[2], ARGV[3])
end
if batches == 0 then return {'OK', redis.call('HGET', KEYS[1], '@seq')} end

for i = 0, batches - 1 do
  redis.call('SETBIT', KEYS[tonumber(ARGV[8 + 2 * i])], ARGV[9 + 2 * i], 1)
end
for i = 4, #KEYS do redis.call('SADD', KEYS[3], KEYS[i]) end
for i = 8 + 2 * batches, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
local ballots = redis.call('HINCRBY', KEYS[1], '@ballots', ARGV[6])
local seq = redis.call('HINCRBY', KEYS[1], '@seq', 1)

local step = tonumber(ARGV[4])
if step > 1 then
  if ballots - tonumber(redis.call('HGET', KEYS[1], '@shown') or '0') < step then return {'OK', seq} end
  redis.call('HSET', KEYS[1], '@shown', ballots)
  redis.call('COPY', KEYS[1], KEYS[2], 'REPLACE')
end
redis.call('PUBLISH', ARGV[5], epoch .. '-' .. seq)
return {'OK', seq}
