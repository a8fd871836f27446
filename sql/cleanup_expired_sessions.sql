-- Deletes at most batch_size sessions whose time is over and returns how many.
-- Locks those sessions' rows, as far as nobody else holds them.
-- Indexes: game_session_expiry, game_session_pkey.
WITH expired AS MATERIALIZED (
    SELECT game_id, id
    FROM game_session
    WHERE expires_minute <= %(as_of)s AND expires_at <= %(as_of)s
    ORDER BY expires_minute
    LIMIT %(batch_size)s
    FOR UPDATE SKIP LOCKED
),
deleted AS (
    DELETE FROM game_session AS s
    USING expired
    WHERE s.game_id = expired.game_id AND s.id = expired.id
    RETURNING 1
)
SELECT count(*) FROM deleted
