-- Appends one event on conditions: that its id is new, that it gets the sequence expected.
-- Returns one row (outcome, sequence, floor): 'recorded'; 'known', when the event id was
-- recorded before; or 'conflict', with the sequence that the event would have got.
-- No row: expected_sequence was not 1 and there is no such game.
-- With a receipt it notes there that the event was recorded, and as what; if it was settled that it
-- was not, it fails. Of the epoch see record_event.sql.
-- Locks the game's row, then the receipt's. Two first uses of one event id at once: the second
-- fails on the key of game_event_id, and run again finds the first.
-- Indexes: game_pkey, game_event_id_pkey, statement_receipt_pkey.
WITH known AS MATERIALIZED (
    SELECT sequence
    FROM game_event_id
    WHERE game_id = %(game_id)s AND event_id = %(event_id)s::uuid
),
log AS (
    -- A game begins with the sequence 1 only. Should it be ended under a caller who expects
    -- another, the row begun here is an empty log.
    INSERT INTO game AS g (game_id, epoch, head, head_at)
    SELECT %(game_id)s,
           coalesce(md5(%(receipt)s::uuid::text || %(statement)s::bigint)::uuid,
                    gen_random_uuid()),
           CASE WHEN coalesce(%(expected)s::bigint, 1) = 1 THEN 1 ELSE 0 END,
           clock_timestamp()
    WHERE NOT EXISTS (SELECT FROM known)
      AND (coalesce(%(expected)s::bigint, 1) = 1
           OR EXISTS (SELECT FROM game WHERE game_id = %(game_id)s))
    ON CONFLICT (game_id) DO UPDATE
        SET head = g.head + 1, head_at = clock_timestamp()
        WHERE coalesce(%(expected)s::bigint, g.head + 1) = g.head + 1
    RETURNING head, floor, head_at AS recorded_at
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT %(game_id)s, head, recorded_at, %(codec)s, %(payload)s
    FROM log
    WHERE head = coalesce(%(expected)s::bigint, head)
    RETURNING sequence
),
remembered AS (
    INSERT INTO game_event_id (game_id, event_id, sequence, recorded_at)
    SELECT %(game_id)s, %(event_id)s::uuid, recorded.sequence, log.recorded_at
    FROM recorded, log
    WHERE %(event_id)s::uuid IS NOT NULL
),
noted AS (
    INSERT INTO statement_receipt AS r (id, statement, answer)
    SELECT %(receipt)s::uuid, %(statement)s::bigint, ARRAY[sequence]
    FROM recorded
    WHERE %(receipt)s::uuid IS NOT NULL
    ON CONFLICT (id) DO UPDATE
        SET statement = CASE WHEN r.statement < excluded.statement THEN excluded.statement END,
            answer = excluded.answer, used_at = excluded.used_at
),
contested AS MATERIALIZED (
    -- Where the log really stands: the lock reads the newest version, not the snapshot's.
    SELECT head
    FROM game
    WHERE game_id = %(game_id)s
      AND NOT EXISTS (SELECT FROM known) AND NOT EXISTS (SELECT FROM log)
    FOR NO KEY UPDATE
)
SELECT 'recorded', recorded.sequence, log.floor FROM recorded, log
UNION ALL
SELECT 'known', sequence, 0 FROM known
UNION ALL
SELECT 'conflict', head + 1, 0 FROM contested
UNION ALL
SELECT 'conflict', head + 1, 0 FROM log WHERE NOT EXISTS (SELECT FROM recorded)
