-- Imports sessions, without a token: the empty hash is that of none. Those that were imported before
-- and have had no token since go on to where the source has them now.
-- Returns one row (sessions imported or moved on).
-- Runs behind import_heads.sql, which holds the games. Locks the sessions' rows, and
-- by their foreign key the games' rows.
-- Index: game_session_game_id_user_id_key.
WITH imported AS (
    INSERT INTO game_session AS s
        (game_id, id, user_id, token_hash, last_acknowledged, ttl, created_at, heartbeat_at,
         expires_at)
    SELECT game_id, gen_random_uuid(), user_id, '', acknowledged,
           make_interval(secs => %(ttl)s), created_at, beat, expiry
    FROM unnest(%(game_ids)s::text[], %(user_ids)s::text[], %(acknowledged)s::bigint[],
                %(created)s::timestamptz[], %(beats)s::timestamptz[], %(expiries)s::timestamptz[])
             AS wanted (game_id, user_id, acknowledged, created_at, beat, expiry)
    ON CONFLICT (game_id, user_id) DO UPDATE
    SET last_acknowledged = greatest(s.last_acknowledged, excluded.last_acknowledged),
        heartbeat_at = greatest(s.heartbeat_at, excluded.heartbeat_at),
        expires_at = greatest(s.expires_at, excluded.expires_at)
    WHERE s.token_hash = '' AND s.closed IS NULL
    RETURNING 1
)
SELECT count(*) FROM imported
