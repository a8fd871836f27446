-- One session by its id, whatever its state.
-- Locks nothing.
-- Index: game_session_pkey.
SELECT id, game_id, user_id, generation, last_acknowledged,
       created_at, heartbeat_at, expires_at,
       coalesce(closed, CASE WHEN expires_at > now() THEN 'live' ELSE 'expired' END)
FROM game_session
WHERE game_id = %(game_id)s AND id = %(id)s
