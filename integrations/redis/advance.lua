-- Notes how far a consumer has folded everything, unless a rebuild was installed that it does not know of.
-- KEYS: installs, offsets, watermarks.
-- ARGV: the token that the consumer knows, number of partitions, channel, then per partition: its number, the offset,
--       the watermark in milliseconds (0: none to tell).
-- No watermark is later than the server's clock: one that a wrong clock set is taken back.
-- Answers: the watermark of the cell, 0 where it has none; -1 where the token is another one.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return -1 end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local oldest = 0
for i = 4, #ARGV, 3 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  local known = tonumber(redis.call('HGET', KEYS[3], ARGV[i]) or '0')
  local newest = math.min(math.max(known, tonumber(ARGV[i + 2])), now)
  if newest ~= known then redis.call('HSET', KEYS[3], ARGV[i], string.format('%d', newest)) end
end
redis.call('HSET', KEYS[3], 'partitions', ARGV[2])
for partition = 0, tonumber(ARGV[2]) - 1 do
  local known = tonumber(redis.call('HGET', KEYS[3], partition) or '0')
  if known == 0 then return 0 end
  if oldest == 0 or known < oldest then oldest = known end
end
redis.call('PUBLISH', ARGV[3], string.format('%d', oldest))
return oldest
