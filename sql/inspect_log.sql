-- Checks the newest rows of a game's log against where the log says that it begins and ends: every
-- sequence in (floor, head] should be there, and none beyond. Rows at or below the floor are those
-- that a cleanup has still to delete. Never reads a payload.
-- Returns one row (rows in (floor, head], their lowest sequence, whether there are others; of the
-- first holes above that sequence the lowest and the highest sequence that is missing; whether
-- there are rows at or below the floor, and beyond the head), or none when there is no such game.
-- Locks nothing.
-- Indexes: game_pkey, game_event_pkey.
WITH log AS MATERIALIZED (
    SELECT head, floor FROM game WHERE game_id = %(game_id)s
),
checked AS MATERIALIZED (
    SELECT sequence,
           lag(sequence, 1, (SELECT head + 1 FROM log)) OVER (ORDER BY sequence DESC) AS next
    FROM (
        SELECT sequence
        FROM game_event
        WHERE game_id = %(game_id)s
          AND sequence > (SELECT floor FROM log) AND sequence <= (SELECT head FROM log)
        ORDER BY sequence DESC
        LIMIT %(most)s
    ) AS newest
)
SELECT found.rows, found.lowest, found.rows = %(most)s, hole.lowest, hole.highest,
       EXISTS (SELECT FROM game_event WHERE game_id = %(game_id)s AND sequence <= log.floor),
       EXISTS (SELECT FROM game_event WHERE game_id = %(game_id)s AND sequence > log.head)
FROM log,
     (SELECT count(*) AS rows, min(sequence) AS lowest FROM checked) AS found,
     (
         SELECT coalesce(array_agg(lowest), '{}') AS lowest,
                coalesce(array_agg(highest), '{}') AS highest
         FROM (
             SELECT sequence + 1 AS lowest, next - 1 AS highest
             FROM checked
             WHERE next - sequence > 1
             LIMIT %(holes)s
         ) AS first
     ) AS hole
