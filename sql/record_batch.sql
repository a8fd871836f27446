-- Appends events to many games at once, those of one game with consecutive sequences.
-- Returns a row (place in game_ids, head, floor) for each game that it appended to. The others
-- are locked by somebody, or there is no such game: nothing was done to them.
-- Of each event: its game's place in game_ids, and how many of its game follow it.
-- Notes in the receipt that it was done, and the heads; fails if it was settled that it was not.
-- Locks the games' rows, without waiting, so that no game holds up another; then the receipt's.
-- Indexes: game_pkey, statement_receipt_pkey.
WITH locked AS MATERIALIZED (
    SELECT g.game_id, wanted.place, wanted.events
    FROM unnest(%(game_ids)s::text[], %(counts)s::integer[])
             WITH ORDINALITY AS wanted (game_id, events, place)
    JOIN game AS g ON g.game_id = wanted.game_id
    FOR NO KEY UPDATE OF g SKIP LOCKED
),
log AS (
    UPDATE game AS g
    SET head = g.head + locked.events, head_at = clock_timestamp()
    FROM locked
    WHERE g.game_id = locked.game_id
    RETURNING locked.place, g.head, g.floor
),
heads AS MATERIALIZED (
    -- By place: an array without NULLs finds its items at once, a join would search for each.
    SELECT array_agg(head ORDER BY place) AS at
    FROM (
        SELECT place, max(head) AS head
        FROM (
            SELECT place, head FROM log
            UNION ALL
            SELECT place, 0 FROM generate_series(1, cardinality(%(counts)s::integer[])) AS place
        ) AS known
        GROUP BY place
    ) AS every
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT event.game_id, heads.at[event.place] - event.followers, clock_timestamp(),
           event.codec, event.payload
    FROM heads,
         unnest(%(events)s::text[], %(places)s::integer[], %(followers)s::integer[],
                %(codecs)s::smallint[], %(payloads)s::bytea[])
             AS event (game_id, place, followers, codec, payload)
    WHERE heads.at[event.place] > 0
),
noted AS (
    INSERT INTO statement_receipt AS r (id, statement, answer)
    SELECT %(receipt)s::uuid, %(statement)s::bigint, heads.at
    FROM heads
    ON CONFLICT (id) DO UPDATE
        SET statement = CASE WHEN r.statement < excluded.statement THEN excluded.statement END,
            answer = excluded.answer, used_at = excluded.used_at
)
SELECT place, head, floor FROM log
