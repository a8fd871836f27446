-- About how much there is to clean up, to show how far a cleanup has come: the expired sessions, and
-- the events of the games that may have old ones. Of either at most a hundred thousand rows are
-- looked at.
-- Returns one row (sessions, events, whether that is all).
-- Locks nothing.
-- Indexes: game_session_expiry, game_oldest.
SELECT sessions.due, games.events, greatest(sessions.due, games.due) < 100000
FROM (
    SELECT count(*) AS due
    FROM (
        SELECT FROM game_session
        WHERE expires_minute <= %(as_of)s AND expires_at <= %(as_of)s
        LIMIT 100000
    ) AS expired
) AS sessions
CROSS JOIN (
    SELECT count(*) AS due, coalesce(sum(head - floor), 0)::bigint AS events
    FROM (
        SELECT head, floor
        FROM game
        WHERE oldest_at < %(as_of)s - make_interval(secs => %(retention)s)
        LIMIT 100000
    ) AS aged
) AS games
