-- As record_batch.sql, but by an update alone, which waits for locked games.
WITH log AS (
    UPDATE game AS g
    SET head = g.head + wanted.events, head_at = clock_timestamp()
    FROM unnest(%(game_ids)s::text[], %(counts)s::integer[]) AS wanted (game_id, events)
    WHERE g.game_id = wanted.game_id
    RETURNING g.game_id, g.head, g.floor
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
