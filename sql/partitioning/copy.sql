-- Copies parts of games, whose rows the transaction holds, to the next table.
-- Locks nothing but what it inserts.
-- Indexes: game_event_pkey, or that of a partition.
INSERT INTO game_event_next (game_id, sequence, recorded_at, codec, payload)
SELECT e.*
FROM unnest(%(game_ids)s::text[], %(afters)s::bigint[], %(throughs)s::bigint[])
         AS s (game_id, after, through)
CROSS JOIN LATERAL (
    SELECT game_id, sequence, recorded_at, codec, payload
    FROM game_event
    WHERE game_id = s.game_id AND sequence > s.after AND sequence <= s.through
    ORDER BY sequence
) AS e
ON CONFLICT DO NOTHING
