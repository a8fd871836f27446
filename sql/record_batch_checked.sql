-- Appends events to many games at once, each on its own conditions: that its id is new, that it
-- gets the sequence expected.
-- Returns a row (number, outcome, sequence, floor) for each event whose game could be locked:
-- 'recorded'; 'known', with the sequence that its id has; or 'conflict', with the sequence that
-- it would have got. The other games are locked by somebody, or there is no such game: nothing
-- was done to them.
-- Of each event: its game's place in game_ids, its id and the sequence it expects, or NULL. The
-- events of a game come in the order in which they are to be recorded, those that expect a
-- sequence first, the lowest first; none expects the same as another, and none has its id.
-- Notes in the receipt that it was done, and number and sequence of each event recorded; fails if
-- it was settled that it was not.
-- Locks the games' rows, without waiting, so that no game holds up another; then the receipt's. An
-- id that somebody used for the first time meanwhile fails on the key of game_event_id: run again,
-- it is known.
-- Indexes: game_pkey, game_event_id_pkey, statement_receipt_pkey.
WITH locked AS MATERIALIZED (
    SELECT wanted.place, g.head, g.floor
    FROM unnest(%(game_ids)s::text[]) WITH ORDINALITY AS wanted (game_id, place)
    JOIN game AS g ON g.game_id = wanted.game_id
    FOR NO KEY UPDATE OF g SKIP LOCKED
),
logs AS MATERIALIZED (
    -- By place: an array without NULLs finds its items at once, a join would search for each.
    SELECT array_agg(head ORDER BY place) AS head, array_agg(floor ORDER BY place) AS floor
    FROM (
        SELECT place, max(head) AS head, max(floor) AS floor
        FROM (
            SELECT place, head, floor FROM locked
            UNION ALL
            SELECT place, -1, -1
            FROM generate_series(1, cardinality(%(game_ids)s::text[])) AS place
        ) AS known
        GROUP BY place
    ) AS every
),
event AS MATERIALIZED (
    SELECT sent.*, logs.head[sent.place] AS head, logs.floor[sent.place] AS floor,
           (SELECT sequence FROM game_event_id AS k
            WHERE k.game_id = sent.game_id AND k.event_id = sent.event_id) AS known
    FROM logs,
         unnest(%(events)s::text[], %(places)s::integer[], %(event_ids)s::uuid[],
                %(expected)s::bigint[], %(codecs)s::smallint[], %(payloads)s::bytea[])
             WITH ORDINALITY
             AS sent (game_id, place, event_id, expected, codec, payload, number)
    WHERE logs.head[sent.place] >= 0
),
judged AS (
    -- What can be met is a run from the head on: the first that leaves a hole ends it.
    SELECT *, expected IS NULL OR expected > head AND expected = head + count(*)
               FILTER (WHERE expected > head) OVER (PARTITION BY place ORDER BY number) AS taken
    FROM event
    WHERE known IS NULL
),
numbered AS MATERIALIZED (
    SELECT *, head + count(*) FILTER (WHERE taken) OVER (PARTITION BY place ORDER BY number)
                   + CASE WHEN taken THEN 0 ELSE 1 END AS sequence
    FROM judged
),
log AS (
    UPDATE game AS g
    SET head = g.head + added.events, head_at = clock_timestamp()
    FROM (SELECT game_id, count(*) AS events FROM numbered WHERE taken GROUP BY game_id) AS added
    WHERE g.game_id = added.game_id
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT game_id, sequence, clock_timestamp(), codec, payload
    FROM numbered
    WHERE taken
),
remembered AS (
    INSERT INTO game_event_id (game_id, event_id, sequence, recorded_at)
    SELECT game_id, event_id, sequence, clock_timestamp()
    FROM numbered
    WHERE taken AND event_id IS NOT NULL
),
noted AS (
    INSERT INTO statement_receipt AS r (id, statement, answer)
    SELECT %(receipt)s::uuid, %(statement)s::bigint, array_agg(ARRAY[number, sequence])
    FROM numbered
    WHERE taken
    HAVING count(*) > 0
    ON CONFLICT (id) DO UPDATE
        SET statement = CASE WHEN r.statement < excluded.statement THEN excluded.statement END,
            answer = excluded.answer, used_at = excluded.used_at
)
SELECT number, CASE WHEN taken THEN 'recorded' ELSE 'conflict' END, sequence, floor FROM numbered
UNION ALL
SELECT number, 'known', known, floor FROM event WHERE known IS NOT NULL
