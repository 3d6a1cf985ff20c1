#!lua name=fraudstream
-- One batch of one source partition takes effect in one call: all of it or nothing, and only once.
--
-- KEYS  1: the stage's state hash of this partition; 2..: the entities that changed, all under one hash tag
-- ARGV  1: first offset of the batch   2: next offset after it
--       3: number of fields, then field, value ...         (set)
--       then number of counters, then name, increment ...  (added)
--       then for each entity: 'append' or 'set', and the bytes
-- Returns {1, next} when applied, {0, stored watermark} when the state is not at `first`; an absent watermark is ''.
redis.register_function('fraudstream_apply', function(keys, args)
  local stored = redis.call('HGET', keys[1], 'next') or ''
  if stored ~= args[1] or redis.call('HEXISTS', keys[1], 'fenced_at') == 1 then
    return {0, stored}
  end
  local at = 3
  for _ = 1, tonumber(args[at]) do
    redis.call('HSET', keys[1], args[at + 1], args[at + 2])
    at = at + 2
  end
  at = at + 1
  for _ = 1, tonumber(args[at]) do
    redis.call('HINCRBY', keys[1], args[at + 1], args[at + 2])
    at = at + 2
  end
  for i = 2, #keys do
    if args[at + 1] == 'append' then
      redis.call('APPEND', keys[i], args[at + 2])
    else
      redis.call('SET', keys[i], args[at + 2])
    end
    at = at + 2
  end
  redis.call('HSET', keys[1], 'next', args[2])
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
