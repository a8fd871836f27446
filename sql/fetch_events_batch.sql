-- Where the logs of some games stand and the first events of each after a sequence, all in one
-- snapshot; a game may be asked for more than once.
-- Returns a row (place in game_ids, then as fetch_events_since.sql) for each that there is. Below
-- the floor the events begin at the floor.
-- Locks nothing.
-- Indexes: game_pkey, lineage_pkey, game_event_pkey.
SELECT asked.place,
       known_epoch(log.epoch, (SELECT mark FROM lineage_mark)), log.head, log.floor,
       page.sequences, page.times, page.codecs, page.payloads
FROM unnest(%(game_ids)s::text[], %(afters)s::bigint[], %(limits)s::bigint[])
         WITH ORDINALITY AS asked (game_id, after, most, place)
JOIN game AS log ON log.game_id = asked.game_id
CROSS JOIN LATERAL (
    SELECT array_agg(sequence) AS sequences,
           string_agg(timestamptz_send(recorded_at), '') AS times,
           array_agg(codec) AS codecs, array_agg(payload) AS payloads
    FROM (
        SELECT sequence, recorded_at, codec, payload
        FROM game_event
        WHERE game_event.game_id = asked.game_id
          AND sequence > greatest(asked.after, log.floor)
        ORDER BY sequence
        LIMIT asked.most
    ) AS event
) AS page
