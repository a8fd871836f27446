-- Forgets at most batch_size event ids that are past the retention and returns how many.
-- Locks those rows, as far as nobody else holds them.
-- Indexes: game_event_id_age, game_event_id_pkey.
WITH aged AS MATERIALIZED (
    SELECT game_id, event_id
    FROM game_event_id
    WHERE recorded_at < %(as_of)s - make_interval(secs => %(retention)s)
    ORDER BY recorded_at
    LIMIT %(batch_size)s
    FOR UPDATE SKIP LOCKED
),
forgotten AS (
    DELETE FROM game_event_id AS i
    USING aged
    WHERE i.game_id = aged.game_id AND i.event_id = aged.event_id
    RETURNING 1
)
SELECT count(*) FROM forgotten
