-- Ends the catching up after a rebuild, once everything that any consumer had read before is folded into it.
-- KEYS: totals, offsets, shown. ARGV: epoch, then pairs of partition and the offset up to which the caller has folded.
-- Answers 1 where it is settled, 0 where it is not yet, or the epoch is another one.
if redis.call('HGET', KEYS[1], '@epoch') ~= ARGV[1] then return 0 end
for i = 2, #ARGV, 2 do
  local known = tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or '0')
  if known > tonumber(ARGV[i + 1]) then return 0 end
end
for i = 2, #ARGV, 2 do
  redis.call('HDEL', KEYS[1], '@replay:' .. ARGV[i])
  redis.call('HDEL', KEYS[3], '@replay:' .. ARGV[i])
end
return 1
