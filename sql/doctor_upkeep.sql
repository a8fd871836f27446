-- What the cleanup should have removed, counted up to a limit each: games whose oldest event, or
-- whose last cleanup, lies longer back than the retention; sessions long expired; event ids and
-- receipts past the retention; with the receipts that there are in all.
-- Returns one row (games, seconds that the oldest is old, sessions, seconds since the first of them
-- expired, event ids, receipts unused for the retention and a day at least, receipts).
-- Locks nothing.
-- Indexes: game_oldest, game_session_expiry, game_event_id_age, statement_receipt_pkey.
SELECT game.*, session.*, id.*, receipt.*
FROM (
    SELECT count(*), extract(epoch FROM now() - min(oldest_at))::float8
    FROM (
        SELECT oldest_at
        FROM game
        WHERE oldest_at < now() - make_interval(secs => %(retention)s + %(grace)s)
        ORDER BY oldest_at
        LIMIT %(most)s
    ) AS old
) AS game,
(
    SELECT count(*), extract(epoch FROM now() - min(expires_minute))::float8
    FROM (
        SELECT expires_minute
        FROM game_session
        WHERE expires_minute < now() - make_interval(secs => %(grace)s)
        ORDER BY expires_minute
        LIMIT %(most)s
    ) AS old
) AS session,
(
    SELECT count(*)
    FROM (
        SELECT
        FROM game_event_id
        WHERE recorded_at < now() - make_interval(secs => %(retention)s + %(grace)s)
        LIMIT %(most)s
    ) AS old
) AS id,
(
    SELECT count(*) FILTER (WHERE used_at < now() - greatest(
               make_interval(secs => %(retention)s), '1 day') - make_interval(secs => %(grace)s)),
           count(*)
    FROM (
        SELECT used_at
        FROM statement_receipt
        WHERE id >= '00000000-0000-0000-0000-000000000000'
        ORDER BY id
        LIMIT %(most)s
    ) AS counted
) AS receipt
