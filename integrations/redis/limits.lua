-- Books what a process took from buckets, each by itself, and tells when each will be full again.
-- KEYS: the set of processes, then one per bucket. ARGV: this process, milliseconds after which a process that told
-- nothing is gone, then per bucket the microseconds that what was taken needs to flow in again.
-- Answers: the number of processes, then per bucket the microseconds until it is full.
-- A bucket lives as long as it is not full; the clock is this server's.
-- It is kept as `when it is full.when that was written`, which read as a number is the former, as the release before
-- has it. What was written later than now was written by a clock that was wrong since: what was owed then is owed now,
-- and the time by which the clock was ahead is not.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2] * 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local told = {redis.call('ZCARD', KEYS[1])}
for i = 2, #KEYS do
  local full_at, written_at = string.match(redis.call('GET', KEYS[i]) or '0', '^(%d+)%.?(%d*)')
  full_at, written_at = tonumber(full_at), tonumber(written_at) or 0
  if written_at > now then full_at = full_at - (written_at - now) end
  if full_at < now then full_at = now end
  full_at = full_at + tonumber(ARGV[i + 1])
  redis.call('SET', KEYS[i], string.format('%.0f.%.0f', full_at, now), 'PX', math.ceil((full_at - now) / 1000))
  told[i] = full_at - now
end
return told
