-- Beats one live session and extends its expiry. No row: it is gone, or of another generation.
-- Locks the session's row.
-- Index: game_session_pkey.
UPDATE game_session
SET heartbeat_at = greatest(heartbeat_at, now()),
    expires_at = greatest(expires_at, now() + ttl)
WHERE game_id = %(game_id)s AND id = %(id)s
  AND closed IS NULL AND expires_at > now()
  AND generation = coalesce(%(generation)s::bigint, generation)
RETURNING id, game_id, user_id, generation, last_acknowledged,
          created_at, heartbeat_at, expires_at, 'live'
