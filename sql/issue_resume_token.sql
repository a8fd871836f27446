-- Begins a session, and its game if need be; or takes over the player's live one: new token,
-- next generation, acknowledgement kept. One that has expired or was revoked is begun anew.
-- A new session starts acknowledged at the floor: it may replay all that is there.
-- Returns one row: the session, and where the log stands.
-- Locks the game's row, then the session's. The game's count of tokens tells a prune under way
-- that there is a session which its snapshot does not show.
-- Indexes: game_pkey, game_session_game_id_user_id_key, lineage_pkey.
WITH log AS (
    INSERT INTO game AS g (game_id, issued)
    VALUES (%(game_id)s, 1)
    ON CONFLICT (game_id) DO UPDATE SET issued = g.issued + 1
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
SELECT issued.*, 'live',
       known_epoch(log.epoch, (SELECT mark FROM lineage_mark)), log.head, log.floor
FROM issued, log
