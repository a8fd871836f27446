-- Appends many events to one game, all or nothing, with consecutive sequences.
-- Returns one row (head, floor): the sequences are the last ones up to head.
-- Locks the game's row.
-- Index: game_pkey.
WITH log AS (
    INSERT INTO game AS g (game_id, head, head_at)
    VALUES (%(game_id)s, cardinality(%(payloads)s::bytea[]), clock_timestamp())
    ON CONFLICT (game_id) DO UPDATE
        SET head = g.head + excluded.head, head_at = clock_timestamp()
    RETURNING head, floor, head_at AS recorded_at
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT %(game_id)s, generate_series(log.head - cardinality(%(payloads)s::bytea[]) + 1, log.head),
           log.recorded_at, unnest(%(codecs)s::smallint[]), unnest(%(payloads)s::bytea[])
    FROM log
)
SELECT head, floor FROM log
