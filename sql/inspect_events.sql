-- The last events of a game, the newest first, with their payloads only if asked for.
-- Returns rows (sequence, seconds since it was recorded, codec, bytes, payload or NULL).
-- Locks nothing.
-- Indexes: game_pkey, game_event_pkey, which also gives the order.
SELECT sequence, extract(epoch FROM now() - recorded_at)::float8, codec, octet_length(payload),
       CASE WHEN %(payloads)s THEN payload END
FROM game_event
WHERE game_id = %(game_id)s
  AND sequence > (SELECT floor FROM game WHERE game_id = %(game_id)s)
ORDER BY sequence DESC
LIMIT %(events)s
