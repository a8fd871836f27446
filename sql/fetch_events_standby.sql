-- What a standby has of some logs after a sequence, for pages of which the primary has sent the
-- beginning; a game may be asked for more than once.
-- Returns a row (whether this is a standby, place in game_ids, the events as in
-- fetch_events_since.sql) for each: no events where this is none, or the log has another epoch here.
-- A promoted server stays in recovery until it takes writes, so what it is asked after the snapshot
-- holds for the snapshot.
-- Locks nothing.
-- Indexes: game_pkey, lineage_pkey, game_event_pkey.
SELECT pg_is_in_recovery(), asked.place, page.sequences, page.times, page.codecs, page.payloads
FROM unnest(%(game_ids)s::text[], %(epochs)s::uuid[], %(afters)s::bigint[], %(limits)s::bigint[])
         WITH ORDINALITY AS asked (game_id, epoch, after, most, place)
LEFT JOIN LATERAL (
    SELECT game_id
    FROM game
    WHERE game.game_id = asked.game_id
      AND known_epoch(epoch, (SELECT mark FROM lineage_mark)) = asked.epoch
      AND pg_is_in_recovery()
    -- Or the planner could read a small table whole.
    LIMIT 1
) AS log ON true
CROSS JOIN LATERAL (
    SELECT array_agg(sequence) AS sequences,
           string_agg(timestamptz_send(recorded_at), '') AS times,
           array_agg(codec) AS codecs, array_agg(payload) AS payloads
    FROM (
        SELECT sequence, recorded_at, codec, payload
        FROM game_event
        WHERE game_event.game_id = log.game_id
          AND sequence > asked.after
        ORDER BY sequence
        LIMIT asked.most
    ) AS event
) AS page
