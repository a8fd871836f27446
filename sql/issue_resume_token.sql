-- Begins a session, and its game if need be; or takes over the player's live one: new token,
-- next generation, acknowledgement kept. One that has expired or was revoked is begun anew.
-- A new session starts acknowledged at the floor: it may replay all that is there.
-- Returns one row: the limit that another session would exceed, if any; the session, and where the
-- log stands. Without either, the game was begun by somebody else since the snapshot in which the
-- sessions were counted: nothing was done, and run again this counts what there is now.
-- A limit that is not NULL is exact only behind lock_issue.sql.
-- Locks the game's row, then the session's. The game's count of tokens tells a prune under way
-- that there is a session which its snapshot does not show.
-- Indexes: game_pkey, game_session_game_id_user_id_key, lineage_pkey, game_session_user for the
-- player's sessions, and for the game's game_session_pkey or game_session_game_id_user_id_key.
WITH seen AS MATERIALIZED (
    SELECT epoch, issued FROM game WHERE game_id = %(game_id)s
),
room AS MATERIALIZED (
    -- A live session of the player's own keeps the place that it has.
    SELECT CASE
        WHEN %(most_per_game)s::bigint IS NULL AND %(most_per_user)s::bigint IS NULL THEN NULL
        WHEN (
            SELECT closed IS NULL AND expires_at > now()
            FROM game_session
            WHERE game_id = %(game_id)s AND user_id = %(user_id)s)
        THEN NULL
        WHEN %(most_per_game)s::bigint IS NOT NULL AND %(most_per_game)s::bigint <= (
            SELECT count(*)
            FROM (
                SELECT FROM game_session
                WHERE game_id = %(game_id)s AND closed IS NULL AND expires_at > now()
                LIMIT %(most_per_game)s::bigint
            ) AS live)
        THEN 'max_sessions_per_game'
        WHEN %(most_per_user)s::bigint IS NOT NULL AND %(most_per_user)s::bigint <= (
            SELECT count(*)
            FROM (
                SELECT FROM game_session
                WHERE user_id = %(user_id)s AND expires_minute > now() - interval '1 minute'
                  AND closed IS NULL AND expires_at > now()
                LIMIT %(most_per_user)s::bigint
            ) AS live)
        THEN 'max_sessions_per_user'
    END AS exceeded
),
log AS (
    INSERT INTO game AS g (game_id, issued)
    SELECT %(game_id)s, 1 FROM room WHERE exceeded IS NULL
    ON CONFLICT (game_id) DO UPDATE SET issued = g.issued + 1
        WHERE %(most_per_game)s::bigint IS NULL
           OR (g.epoch, g.issued) = (SELECT epoch, issued FROM seen)
    RETURNING epoch, head, floor
),
issued AS (
    INSERT INTO game_session AS s
        (game_id, id, user_id, token_hash, last_acknowledged, ttl, expires_at)
    SELECT %(game_id)s, %(id)s, %(user_id)s, %(token_hash)s, log.floor,
           make_interval(secs => %(ttl)s), now() + make_interval(secs => %(ttl)s)
    FROM log
    ON CONFLICT (game_id, user_id) DO UPDATE
    SET token_hash = excluded.token_hash,
        token_salt = NULL,
        ttl = excluded.ttl,
        heartbeat_at = greatest(s.heartbeat_at, excluded.heartbeat_at),
        expires_at = excluded.expires_at,
        closed = NULL,
        (id, generation, last_acknowledged, created_at,
         previous_token_hash, displaced_token_hashes, retired_token_hashes) = (
            SELECT s.id, s.generation + 1, s.last_acknowledged, s.created_at, s.token_hash,
                   CASE WHEN s.previous_token_hash IS NULL THEN s.displaced_token_hashes
                        ELSE (s.previous_token_hash || s.displaced_token_hashes)[:8] END,
                   s.retired_token_hashes
            WHERE s.closed IS NULL AND s.expires_at > now()
            UNION ALL
            SELECT excluded.id, 1, excluded.last_acknowledged, excluded.created_at,
                   NULL, '{}', '{}'
            WHERE s.closed IS NOT NULL OR s.expires_at <= now()
        )
    RETURNING id, game_id, user_id, generation, last_acknowledged,
              created_at, heartbeat_at, expires_at
)
SELECT room.exceeded, issued.*, 'live',
       known_epoch(log.epoch, (SELECT mark FROM lineage_mark)), log.head, log.floor
FROM room LEFT JOIN (issued CROSS JOIN log) ON true
