-- As record_events.sql, but numbered by WITH ORDINALITY and joined to the game's row.
WITH log AS (
    INSERT INTO game AS g (game_id, head, head_at)
    VALUES (%(game_id)s, cardinality(%(payloads)s::bytea[]), clock_timestamp())
    ON CONFLICT (game_id) DO UPDATE
        SET head = g.head + excluded.head, head_at = clock_timestamp()
    RETURNING head, floor, head_at AS recorded_at
),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT %(game_id)s, log.head - cardinality(%(payloads)s::bytea[]) + event.place,
           log.recorded_at, event.codec, event.payload
    FROM log,
         unnest(%(codecs)s::smallint[], %(payloads)s::bytea[])
             WITH ORDINALITY AS event (codec, payload, place)
)
SELECT head, floor FROM log
