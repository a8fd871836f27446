-- How the database stands, for whoever watches it: how many sessions are live, at most `sessions`, and
-- for how many seconds the oldest event that one of these has not acknowledged has been there; 0 if
-- there is none. Events at or below the floor are not there. If there are more, it is of those that have been silent longest.
-- Returns one row (live, oldest). Reads a bounded number of rows, however many there are.
-- Locks nothing.
-- Indexes: game_session_expiry, game_pkey, game_event_pkey.
WITH live AS MATERIALIZED (
    SELECT game_id, last_acknowledged
    FROM game_session
    WHERE expires_minute >= date_bin('1 minute', now(), '2000-01-01 00:00:00+00')
      AND expires_at > now()
      -- Not IS NULL, which would lead to game_session_user, and to a sort.
      AND coalesce(closed, 'live') = 'live'
    ORDER BY expires_minute
    LIMIT %(sessions)s
),
behind AS MATERIALIZED (
    SELECT game_id, min(last_acknowledged) AS acknowledged
    FROM live
    GROUP BY game_id
)
SELECT (SELECT count(*) FROM live),
       coalesce(extract(epoch FROM now() - min(event.recorded_at)), 0)::float8
FROM behind
JOIN game AS log ON log.game_id = behind.game_id
CROSS JOIN LATERAL (
    SELECT recorded_at
    FROM game_event
    WHERE game_event.game_id = behind.game_id
      AND sequence > greatest(behind.acknowledged, log.floor)
    ORDER BY sequence
    LIMIT 1
) AS event
