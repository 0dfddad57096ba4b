-- Books what a process took from buckets, each by itself, and tells when each will be full again.
-- KEYS: the set of processes, then one per bucket. ARGV: this process, milliseconds after which a process that told
-- nothing is gone, then per bucket the microseconds that what was taken needs to flow in again.
-- Answers: the number of processes, then per bucket the microseconds until it is full.
-- A bucket lives as long as it is not full; the clock is this server's.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2] * 1000)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local told = {redis.call('ZCARD', KEYS[1])}
for i = 2, #KEYS do
  local full_at = tonumber(redis.call('GET', KEYS[i]) or '0')
  if full_at < now then full_at = now end
  full_at = full_at + tonumber(ARGV[i + 1])
  redis.call('SET', KEYS[i], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
  told[i] = full_at - now
end
return told
