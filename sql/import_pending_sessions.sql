-- Which sessions of an import are not there yet, or are there and behind.
-- Returns a row (place in game_ids) for each. One that has had a token (an imported one has the
-- empty hash, which no token has) or was closed is the registry's own by now and left alone.
-- Locks nothing.
-- Index: game_session_game_id_user_id_key.
SELECT wanted.place
FROM unnest(%(game_ids)s::text[], %(user_ids)s::text[], %(acknowledged)s::bigint[],
            %(beats)s::timestamptz[], %(expiries)s::timestamptz[])
         WITH ORDINALITY AS wanted (game_id, user_id, acknowledged, beat, expiry, place)
LEFT JOIN game_session AS s ON s.game_id = wanted.game_id AND s.user_id = wanted.user_id
WHERE s.game_id IS NULL
   OR (s.token_hash = '' AND s.closed IS NULL
       AND (s.last_acknowledged < wanted.acknowledged
            OR s.heartbeat_at < wanted.beat OR s.expires_at < wanted.expiry))
