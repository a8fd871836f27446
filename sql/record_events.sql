-- Appends many events to one game, all or nothing, with consecutive sequences.
-- Returns one row (head, floor): the sequences are the last ones up to head.
-- Notes in the receipt that it was done, and the head; fails if it was settled that it was not.
-- Of the epoch see record_event.sql.
-- Locks the game's row, then the receipt's.
-- Indexes: game_pkey, statement_receipt_pkey.
WITH log AS (
    INSERT INTO game AS g (game_id, epoch, head, head_at)
    VALUES (%(game_id)s,
            md5(%(receipt)s::uuid::text || %(statement)s::bigint)::uuid,
            cardinality(%(payloads)s::bytea[]), clock_timestamp())
    ON CONFLICT (game_id) DO UPDATE
        SET head = g.head + excluded.head, head_at = clock_timestamp()
    RETURNING head, floor, head_at AS recorded_at
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT %(game_id)s, generate_series(log.head - cardinality(%(payloads)s::bytea[]) + 1, log.head),
           log.recorded_at, unnest(%(codecs)s::smallint[]), unnest(%(payloads)s::bytea[])
    FROM log
),
noted AS (
    INSERT INTO statement_receipt AS r (id, statement, answer)
    SELECT %(receipt)s::uuid, %(statement)s::bigint, ARRAY[head]
    FROM log
    ON CONFLICT (id) DO UPDATE
        SET statement = CASE WHEN r.statement < excluded.statement THEN excluded.statement END,
            answer = excluded.answer, used_at = excluded.used_at
)
SELECT head, floor FROM log
