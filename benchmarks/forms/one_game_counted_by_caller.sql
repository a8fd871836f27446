-- As record_events.sql, but the caller says of each event how many follow it.
WITH log AS (
    INSERT INTO game AS g (game_id, head, head_at)
    VALUES (%(game_id)s, cardinality(%(payloads)s::bytea[]), clock_timestamp())
    ON CONFLICT (game_id) DO UPDATE
        SET head = g.head + excluded.head, head_at = clock_timestamp()
    RETURNING head, floor, head_at AS recorded_at
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT %(game_id)s, (SELECT head FROM log) - event.followers,
           (SELECT recorded_at FROM log), event.codec, event.payload
    FROM unnest(%(codecs)s::smallint[], %(payloads)s::bytea[], %(followers)s::integer[])
             AS event (codec, payload, followers)
)
SELECT head, floor FROM log
