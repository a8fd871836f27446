-- Who keeps long logs from being pruned: of the games whose log was last cleaned up longest ago (so
-- those with the oldest events are among them), the longest logs, and of each the live session
-- that has acknowledged least. Reads a bounded number of games, and of sessions of each.
-- Returns rows (game_id, events in the log, session id, player, events that it has not
-- acknowledged, events of those that all other live sessions have, seconds since its last beat),
-- the longest log first.
-- Locks nothing.
-- Indexes: game_oldest, game_session_game_id_user_id_key or game_session_pkey.
SELECT log.game_id, log.head - log.floor, slowest.id, slowest.user_id,
       log.head - slowest.last_acknowledged,
       least(slowest.next, log.head) - greatest(slowest.last_acknowledged, log.floor),
       extract(epoch FROM now() - slowest.heartbeat_at)::float8
FROM (
    SELECT *
    FROM (
        SELECT game_id, head, floor
        FROM game
        WHERE oldest_at <= now()
        ORDER BY oldest_at
        LIMIT %(games)s
    ) AS oldest
    WHERE head - floor >= %(lag)s
    ORDER BY head - floor DESC
    LIMIT %(most)s
) AS log
CROSS JOIN LATERAL (
    SELECT *
    FROM (
        SELECT id, user_id, last_acknowledged, heartbeat_at,
               lead(last_acknowledged) OVER (ORDER BY last_acknowledged) AS next
        FROM (
            SELECT *
            FROM game_session
            WHERE game_session.game_id = log.game_id
            LIMIT %(sessions)s
        ) AS counted
        WHERE closed IS NULL AND expires_at > now()
    ) AS live
    ORDER BY last_acknowledged
    LIMIT 1
) AS slowest
WHERE log.head - slowest.last_acknowledged >= %(lag)s
