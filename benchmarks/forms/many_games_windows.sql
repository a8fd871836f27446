-- As record_batch.sql, but the server counts and numbers the events: windows and a join.
WITH event AS MATERIALIZED (
    SELECT *
    FROM unnest(%(events)s::text[], %(codecs)s::smallint[], %(payloads)s::bytea[])
             WITH ORDINALITY AS event (game_id, codec, payload, place)
),
log AS (
    INSERT INTO game AS g (game_id, head, head_at)
    SELECT game_id, count(*), clock_timestamp() FROM event GROUP BY game_id ORDER BY game_id
    ON CONFLICT (game_id) DO UPDATE
        SET head = g.head + excluded.head, head_at = clock_timestamp()
    RETURNING game_id, head, floor
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT event.game_id,
           log.head - count(*) OVER (PARTITION BY event.game_id)
                    + row_number() OVER (PARTITION BY event.game_id ORDER BY place),
           clock_timestamp(), event.codec, event.payload
    FROM event JOIN log USING (game_id)
)
SELECT head, floor FROM log
