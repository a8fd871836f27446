-- Where a game's log stands and the first events after a sequence, in order, in one snapshot.
-- Returns one row, its events as arrays (NULL when there are none), or no row when there is no
-- such game. Positions outside (floor, head] and other epochs are left to the caller to refuse.
-- Locks nothing.
-- Indexes: game_pkey, lineage_pkey, game_event_pkey.
SELECT known_epoch(log.epoch, (SELECT mark FROM lineage_mark)), log.head, log.floor,
       page.sequences, page.times, page.codecs, page.payloads
FROM game AS log
CROSS JOIN LATERAL (
    SELECT array_agg(sequence) AS sequences,
           string_agg(timestamptz_send(recorded_at), '') AS times,
           array_agg(codec) AS codecs, array_agg(payload) AS payloads
    FROM (
        SELECT sequence, recorded_at, codec, payload
        FROM game_event
        WHERE game_id = %(game_id)s
          AND sequence > %(after)s AND log.floor <= %(after)s
        ORDER BY sequence
        LIMIT %(limit)s
    ) AS event
) AS page
WHERE log.game_id = %(game_id)s
