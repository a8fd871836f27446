-- Closes a session for ever.
-- Locks the session's row.
-- Index: game_session_pkey.
UPDATE game_session
SET closed = 'revoked'
WHERE game_id = %(game_id)s AND id = %(id)s
RETURNING id, game_id, user_id, generation, last_acknowledged,
          created_at, heartbeat_at, expires_at, 'revoked'
