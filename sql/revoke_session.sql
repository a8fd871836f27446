-- Closes a session for ever; with a generation, only as long as that is the newest.
-- Locks the session's row.
-- Index: game_session_pkey.
UPDATE game_session
SET closed = 'revoked'
WHERE game_id = %(game_id)s AND id = %(id)s
  AND generation = coalesce(%(generation)s::bigint, generation)
RETURNING id, game_id, user_id, generation, last_acknowledged,
          created_at, heartbeat_at, expires_at, 'revoked'
