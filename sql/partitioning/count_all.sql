-- Counts as `count`, all games.
-- Locks nothing.
-- Indexes: game_event_pkey and game_event_next_pkey, or those of partitions.
SELECT coalesce(sum(here), 0)::bigint, coalesce(sum(there), 0)::bigint,
       coalesce(bool_and(here = there), true)
FROM (
    SELECT (SELECT count(*) FROM game_event
            WHERE game_id = s.game_id AND sequence > s.after AND sequence <= s.through) AS here,
           (SELECT count(*) FROM game_event_next
            WHERE game_id = s.game_id AND sequence > s.after AND sequence <= s.through) AS there
    FROM (SELECT game_id, floor, 9223372036854775807 FROM game) AS s (game_id, after, through)
    -- So that each is counted once, however often it is named above.
    OFFSET 0
) AS counted
