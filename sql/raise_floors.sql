-- In the games claimed by claim_aged_games.sql: raises the floor over the events past the retention,
-- at most five batches of them in all, and deletes none; ends the games that have nothing left,
-- unless they were written to within the retention. Notes for each other game how old its oldest
-- event now is. That is the last instant past the retention where rows at or below the floor are
-- left: so the next claim finds the game again, and who only raises floors tells that it is done.
-- Whether they are is for sweep_events.sql to find out, which holds nobody up: `swept` is how far
-- it came in this log, or -1, and then they are taken for granted.
-- Returns a row (game_id, whether rows may be left, whether its floor was raised, whether it was
-- ended) for each.
-- Locks nothing more than the claim did.
-- Indexes: game_pkey, game_event_pkey, game_event_id_pkey,
-- game_session_pkey or game_session_game_id_user_id_key.
WITH claimed AS MATERIALIZED (
    SELECT g.game_id, g.head, g.head_at, g.floor, wanted.swept
    FROM unnest(%(game_ids)s::text[], %(swept)s::bigint[]) AS wanted (game_id, swept)
    JOIN game AS g ON g.game_id = wanted.game_id
),
reached AS MATERIALIZED (
    SELECT claimed.*, prefix.through, prefix.more
    FROM claimed
    CROSS JOIN LATERAL (
        -- A prefix only, whatever the clock did: nothing behind the first event that is young
        -- enough to stay.
        SELECT coalesce(max(sequence) FILTER (WHERE past), claimed.floor) AS through,
               count(*) FILTER (WHERE past)
                   > %(batch_size)s::bigint * 5 / cardinality(%(game_ids)s::text[]) AS more
        FROM (
            SELECT sequence,
                   bool_and(recorded_at < %(as_of)s - make_interval(secs => %(retention)s))
                       OVER (ORDER BY sequence) AS past
            FROM (
                SELECT sequence, recorded_at
                FROM game_event
                WHERE game_id = claimed.game_id AND sequence > claimed.floor
                ORDER BY sequence
                LIMIT %(batch_size)s::bigint * 5 / cardinality(%(game_ids)s::text[]) + 1
            ) AS oldest
        ) AS event
    ) AS prefix
),
judged AS MATERIALIZED (
    SELECT *, CASE
        WHEN through = 0 THEN false
        WHEN swept < 0 THEN true
        ELSE EXISTS (
            SELECT FROM game_event AS e
            WHERE e.game_id = reached.game_id
              AND e.sequence > reached.swept AND e.sequence <= reached.through)
        END AS unswept
    FROM reached
),
emptied AS MATERIALIZED (
    SELECT game_id
    FROM judged
    WHERE through = head AND head_at < %(as_of)s - make_interval(secs => %(retention)s)
      -- In the next log of the game these would stand where its own events belong.
      AND NOT unswept
      AND NOT EXISTS (SELECT FROM game_session AS s WHERE s.game_id = judged.game_id)
      -- And an id for the wrong event.
      AND NOT EXISTS (SELECT FROM game_event_id AS i WHERE i.game_id = judged.game_id)
),
ended AS (
    DELETE FROM game
    USING emptied
    WHERE game.game_id = emptied.game_id
),
noted AS (
    UPDATE game
    SET floor = judged.through,
        oldest_at = CASE
            WHEN judged.more THEN game.oldest_at
            WHEN judged.unswept
                THEN %(as_of)s - make_interval(secs => %(retention)s) - interval '1 microsecond'
            ELSE coalesce(
                (SELECT recorded_at FROM game_event AS e
                 WHERE e.game_id = judged.game_id AND e.sequence = judged.through + 1), now())
            END
    FROM judged
    WHERE game.game_id = judged.game_id
      AND NOT EXISTS (SELECT FROM emptied WHERE emptied.game_id = judged.game_id)
)
SELECT game_id, unswept, through > floor,
       EXISTS (SELECT FROM emptied WHERE emptied.game_id = judged.game_id)
FROM judged
