-- Counts attempts; three keys for each: the voter's and the network's minute, the device's hour of distinct voters.
-- KEYS: 3 per attempt. ARGV: seconds that a minute's key lives, seconds that an hour's key lives, most voters kept of
-- one device, then one voter pseudonym per attempt (empty: no device is known).
-- Returns 3 counts per attempt, this attempt included.
local counts = {}
for index = 1, #KEYS / 3 do
    local voter_key, device_key, network_key = KEYS[3 * index - 2], KEYS[3 * index - 1], KEYS[3 * index]
    local attempts = redis.call('INCR', voter_key)
    if attempts == 1 then redis.call('EXPIRE', voter_key, ARGV[1]) end
    local voters = 0
    local voter = ARGV[3 + index]
    if voter ~= '' then
        voters = redis.call('SCARD', device_key)
        -- a device that far over every limit is not worth more memory
        if voters < tonumber(ARGV[3]) then
            redis.call('SADD', device_key, voter)
            if voters == 0 then redis.call('EXPIRE', device_key, ARGV[2]) end
            voters = redis.call('SCARD', device_key)
        end
    end
    local network = redis.call('INCR', network_key)
    if network == 1 then redis.call('EXPIRE', network_key, ARGV[1]) end
    counts[3 * index - 2], counts[3 * index - 1], counts[3 * index] = attempts, voters, network
end
return counts
