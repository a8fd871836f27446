-- In the games claimed by claim_aged_games.sql: deletes events past the retention, at most
-- batch_size in all; then the games that have nothing left, unless they were written to within
-- the retention. Notes for each other game how old its oldest event now is.
-- Returns one row (events deleted, games deleted).
-- Locks nothing more than the claim did.
-- Indexes: game_pkey, game_event_pkey, game_event_id_pkey,
-- game_session_pkey or game_session_game_id_user_id_key.
WITH claimed AS MATERIALIZED (
    SELECT game_id, head, head_at, floor
    FROM game
    WHERE game_id = ANY (%(game_ids)s::text[])
),
aged AS MATERIALIZED (
    SELECT claimed.game_id, event.sequence
    FROM claimed
    CROSS JOIN LATERAL (
        -- A prefix only, whatever the clock did: nothing behind the first event that is young
        -- enough to stay.
        SELECT sequence,
               bool_and(recorded_at < %(as_of)s - make_interval(secs => %(retention)s))
                   OVER (ORDER BY sequence) AS past
        FROM (
            SELECT sequence, recorded_at
            FROM game_event
            WHERE game_id = claimed.game_id AND sequence > claimed.floor
            ORDER BY sequence
            LIMIT %(batch_size)s::bigint / cardinality(%(game_ids)s::text[]) + 1
        ) AS oldest
    ) AS event
    WHERE event.past
    LIMIT %(batch_size)s
),
deleted AS (
    DELETE FROM game_event AS e
    USING aged
    WHERE e.game_id = aged.game_id AND e.sequence = aged.sequence
    RETURNING 1
),
floors AS MATERIALIZED (
    SELECT claimed.game_id, claimed.head, claimed.head_at,
           coalesce(max(aged.sequence), claimed.floor) AS floor
    FROM claimed LEFT JOIN aged ON aged.game_id = claimed.game_id
    GROUP BY claimed.game_id, claimed.head, claimed.head_at, claimed.floor
),
emptied AS MATERIALIZED (
    SELECT game_id
    FROM floors
    WHERE floor = head AND head_at < %(as_of)s - make_interval(secs => %(retention)s)
      AND NOT EXISTS (SELECT FROM game_session AS s WHERE s.game_id = floors.game_id)
      -- In the next log of the game an id would stand for the wrong event.
      AND NOT EXISTS (SELECT FROM game_event_id AS i WHERE i.game_id = floors.game_id)
),
ended AS (
    DELETE FROM game
    USING emptied
    WHERE game.game_id = emptied.game_id
    RETURNING 1
),
noted AS (
    UPDATE game
    SET floor = floors.floor,
        oldest_at = coalesce(
            (SELECT recorded_at FROM game_event AS e
             WHERE e.game_id = floors.game_id AND e.sequence = floors.floor + 1), now())
    FROM floors
    WHERE game.game_id = floors.game_id
      AND NOT EXISTS (SELECT FROM emptied WHERE emptied.game_id = floors.game_id)
)
SELECT (SELECT count(*) FROM deleted), (SELECT count(*) FROM ended)
