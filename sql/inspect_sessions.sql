-- The sessions of a game, whatever their state, up to a number, and one more by its id if there is
-- one; no token and no hash of one.
-- Returns rows, the one perhaps twice (id, player, generation, last acknowledgement, seconds since
-- it was created, since its last beat, until it expires; state).
-- Locks nothing.
-- Indexes: game_session_game_id_user_id_key, game_session_pkey.
SELECT id, user_id, generation, last_acknowledged,
       extract(epoch FROM now() - created_at)::float8,
       extract(epoch FROM now() - heartbeat_at)::float8,
       extract(epoch FROM expires_at - now())::float8,
       coalesce(closed, CASE WHEN expires_at > now() THEN 'live' ELSE 'expired' END)
FROM (
    (SELECT * FROM game_session WHERE game_id = %(game_id)s ORDER BY user_id LIMIT %(most)s)
    UNION ALL
    SELECT * FROM game_session WHERE game_id = %(game_id)s AND id = %(id)s
) AS session
