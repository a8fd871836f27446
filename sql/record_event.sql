-- Appends one event and gives it the next sequence of its game. Begins the game if it is new.
-- Returns one row (sequence, floor).
-- With a receipt it notes there that it was done and the sequence; if it was settled that it was
-- not, it fails. The receipt and the statement's number are new in all the world, so a new epoch
-- is made of them: a random one costs as much as the rest of the upsert, and is rarely needed.
-- Locks the game's row, then the receipt's.
-- Indexes: game_pkey, statement_receipt_pkey.
WITH log AS (
    INSERT INTO game AS g (game_id, epoch, head, head_at)
    VALUES (%(game_id)s,
            coalesce(md5(%(receipt)s::uuid::text || %(statement)s::bigint)::uuid,
                     gen_random_uuid()),
            1, clock_timestamp())
    ON CONFLICT (game_id) DO UPDATE
        SET head = g.head + 1, head_at = clock_timestamp()
    RETURNING head, floor, head_at AS recorded_at
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT %(game_id)s, head, recorded_at, %(codec)s, %(payload)s
    FROM log
),
noted AS (
    INSERT INTO statement_receipt AS r (id, statement, answer)
    SELECT %(receipt)s::uuid, %(statement)s::bigint, ARRAY[head]
    FROM log
    WHERE %(receipt)s::uuid IS NOT NULL
    ON CONFLICT (id) DO UPDATE
        -- NULL, which is refused, where the number is taken.
        SET statement = CASE WHEN r.statement < excluded.statement THEN excluded.statement END,
            answer = excluded.answer, used_at = excluded.used_at
)
SELECT head, floor FROM log
