-- The live sessions of a game, by player.
-- Locks nothing.
-- Index: game_session_game_id_user_id_key, which also gives the order.
SELECT id, game_id, user_id, generation, last_acknowledged,
       created_at, heartbeat_at, expires_at, 'live'
FROM game_session
WHERE game_id = %(game_id)s AND closed IS NULL AND expires_at > now()
ORDER BY user_id
