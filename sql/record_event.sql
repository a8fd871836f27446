-- Appends one event and gives it the next sequence of its game. Begins the game if it is new.
-- Returns one row (sequence, floor).
-- Locks the game's row.
-- Index: game_pkey.
WITH log AS (
    INSERT INTO game AS g (game_id, head, head_at)
    VALUES (%(game_id)s, 1, clock_timestamp())
    ON CONFLICT (game_id) DO UPDATE
        SET head = g.head + 1, head_at = clock_timestamp()
    RETURNING head, floor, head_at AS recorded_at
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT %(game_id)s, head, recorded_at, %(codec)s, %(payload)s
    FROM log
)
SELECT head, floor FROM log
