-- As record_batch.sql, but by an upsert, which also begins games and waits for locked ones.
WITH log AS (
    INSERT INTO game AS g (game_id, head, head_at)
    SELECT game_id, events, clock_timestamp()
    FROM unnest(%(game_ids)s::text[], %(counts)s::integer[]) AS wanted (game_id, events)
    ON CONFLICT (game_id) DO UPDATE
        SET head = g.head + excluded.head, head_at = clock_timestamp()
    RETURNING game_id, head, floor
),
heads AS MATERIALIZED (SELECT array_agg(head ORDER BY game_id) AS at FROM log),
recorded AS (
    INSERT INTO game_event (game_id, sequence, recorded_at, codec, payload)
    SELECT event.game_id, heads.at[event.place] - event.followers, clock_timestamp(),
           event.codec, event.payload
    FROM heads,
         unnest(%(events)s::text[], %(places)s::integer[], %(followers)s::integer[],
                %(codecs)s::smallint[], %(payloads)s::bytea[])
             AS event (game_id, place, followers, codec, payload)
)
SELECT head, floor FROM log
