-- Remembers proofs of possession, each for a while from its first use on.
-- KEYS: one per proof. ARGV: what marks this call, seconds that a proof is kept.
-- Answers, per proof, whether it is used for the first time: 1, or 0 where another call has left its mark.
-- The same call may be made again, by a client whose connection broke: it finds its own marks.
local first = {}
for i = 1, #KEYS do
  local before = redis.call('SET', KEYS[i], ARGV[1], 'NX', 'GET', 'EX', ARGV[2])
  first[i] = (not before or before == ARGV[1]) and 1 or 0
end
return first
