#!lua name=fraudstream
-- One batch of one source partition takes effect in one call: all of it or nothing, and only once.
--
-- KEYS  1: the stage's state hash of this partition; 2..: the entities that changed, all under one hash tag, those first
--       whose logs grow, then those whose logs are replaced
-- ARGV  1: first offset of the batch   2: next offset after it
--       3: number of fields, then field, value ...         (set)
--       then number of counters, then name, increment ...  (added)
--       then how many logs grow, and the bytes of each entity
-- Returns {1, next} when applied, {0, stored watermark} when the state is not at `first`; an absent watermark is ''.
redis.register_function('fraudstream_apply_batch', function(keys, args)
  local held = redis.call('HMGET', keys[1], 'next', 'fenced_at')
  local stored = held[1] or ''
  if stored ~= args[1] or held[2] then
    return {0, stored}
  end
  local fields = 3
  local counters = fields + 2 * tonumber(args[fields]) + 1
  local logs = counters + 2 * tonumber(args[counters]) + 1
  local grown = tonumber(args[logs])
  redis.call('HSET', keys[1], 'next', args[2], unpack(args, fields + 1, counters - 1))
  for at = counters + 1, logs - 1, 2 do
    redis.call('HINCRBY', keys[1], args[at], args[at + 1])
  end
  for i = 1, grown do
    redis.call('APPEND', keys[i + 1], args[logs + i])
  end
  for i = grown + 1, #keys - 1 do
    redis.call('SET', keys[i + 1], args[logs + i])
  end
  return {1, args[2]}
end)

-- No batch takes effect in this state any more. KEYS 1: the stage's state hash. `fenced_at` keeps the watermark, '0' for none.
redis.register_function('fraudstream_fence', function(keys)
  local stored = redis.call('HGET', keys[1], 'next')
  if stored or redis.call('HEXISTS', keys[1], 'fenced_at') == 0 then
    redis.call('HSET', keys[1], 'fenced_at', stored or '0')
    redis.call('HDEL', keys[1], 'next')
  end
  return redis.call('HGET', keys[1], 'fenced_at')
end)
