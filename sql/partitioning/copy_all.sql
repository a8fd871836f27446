-- Copies what all batches of `copy` do together.
-- Locks nothing but what it inserts.
-- Indexes: game_event_pkey, or that of a partition.
INSERT INTO game_event_next (game_id, sequence, recorded_at, codec, payload)
SELECT e.*
FROM (SELECT game_id, floor, 9223372036854775807 FROM game) AS s (game_id, after, through)
CROSS JOIN LATERAL (
    SELECT game_id, sequence, recorded_at, codec, payload
    FROM game_event
    WHERE game_id = s.game_id AND sequence > s.after AND sequence <= s.through
    ORDER BY sequence
) AS e
ON CONFLICT DO NOTHING
