-- The live sessions of some games: how many, how many of them were silent for a while, and the
-- lowest acknowledgement among them. Looks at no more than a bounded number of sessions of a game.
-- Returns a row for each game_id (game_id, live, stale, lowest acknowledgement or NULL, whether
-- there are sessions that were not looked at).
-- Locks nothing.
-- Index: game_session_game_id_user_id_key or game_session_pkey.
SELECT wanted.game_id, counted.*
FROM unnest(%(game_ids)s::text[]) AS wanted (game_id)
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE live),
           count(*) FILTER (WHERE live AND silent),
           min(last_acknowledged) FILTER (WHERE live),
           count(*) = %(most)s
    FROM (
        SELECT last_acknowledged, closed IS NULL AND expires_at > now() AS live,
               heartbeat_at < now() - make_interval(secs => %(stale)s) AS silent
        FROM game_session
        WHERE game_session.game_id = wanted.game_id
        LIMIT %(most)s
    ) AS session
) AS counted
