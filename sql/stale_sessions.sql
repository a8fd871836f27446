-- Live sessions that have not beaten for a while, the longest silent first, to the minute.
-- Locks nothing.
-- Index: game_session_heartbeat, which also gives the order.
SELECT id, game_id, user_id, generation, last_acknowledged,
       created_at, heartbeat_at, expires_at, 'live'
FROM game_session
WHERE heartbeat_minute <= now() - make_interval(secs => %(older_than)s)
  AND heartbeat_at <= now() - make_interval(secs => %(older_than)s)
  AND closed IS NULL AND expires_at > now()
ORDER BY heartbeat_minute
LIMIT %(limit)s
