-- Takes many sessions over, each as resume.sql does: next generation, beat, token rotated; and reads
-- the first pages of what their clients missed. Those of one game share a page where they overlap.
-- Returns a row (place in ids, then as resume.sql) for each session that it took over; of those with
-- the same page only the first has the events. The other sessions are locked by somebody, or their
-- tokens open no live session.
-- Locks the sessions' rows, without waiting.
-- Indexes: game_session_pkey, game_pkey, lineage_pkey, game_event_pkey.
WITH asked AS MATERIALIZED (
    SELECT *
    FROM unnest(%(game_ids)s::text[], %(ids)s::uuid[], %(nonces)s::bytea[], %(blinded)s::bytea[],
                %(salts)s::bytea[], %(next_hashes)s::bytea[], %(pages)s::integer[])
             WITH ORDINALITY
             AS asked (game_id, id, nonce, blinded, salt, next_hash, page, place)
),
opened AS MATERIALIZED (
    SELECT asked.*
    FROM asked
    JOIN game_session AS s ON s.game_id = asked.game_id AND s.id = asked.id
    WHERE (sha256(s.token_hash || asked.nonce) = asked.blinded
           OR sha256(s.previous_token_hash || asked.nonce) = asked.blinded)
      AND s.closed IS NULL AND s.expires_at > now()
    FOR NO KEY UPDATE OF s SKIP LOCKED
),
taken AS (
    UPDATE game_session AS s
    SET generation = s.generation + 1,
        heartbeat_at = greatest(s.heartbeat_at, now()),
        expires_at = greatest(s.expires_at, now() + s.ttl),
        (token_hash, previous_token_hash, token_salt, retired_token_hashes) = (
            SELECT opened.next_hash, s.token_hash, opened.salt,
                   CASE WHEN s.previous_token_hash IS NULL THEN s.retired_token_hashes
                        ELSE (s.previous_token_hash || s.retired_token_hashes)[:8] END
            WHERE sha256(s.token_hash || opened.nonce) = opened.blinded
            UNION ALL
            SELECT s.token_hash, s.previous_token_hash, s.token_salt, s.retired_token_hashes
            WHERE sha256(s.token_hash || opened.nonce) <> opened.blinded
        )
    FROM opened
    WHERE s.game_id = opened.game_id AND s.id = opened.id
    RETURNING opened.place, opened.page, s.*
),
page AS MATERIALIZED (
    SELECT wanted.page, wanted.first, log.*, event.*
    FROM (
        SELECT page, min(place) AS first, min(game_id) AS game_id,
               (%(afters)s::bigint[])[page] AS after, (%(epochs)s::uuid[])[page] AS epoch,
               (%(limits)s::bigint[])[page] AS most
        FROM taken
        GROUP BY page
    ) AS wanted
    JOIN LATERAL (
        SELECT known_epoch(game.epoch, (SELECT mark FROM lineage_mark)), head, floor
        FROM game
        WHERE game.game_id = wanted.game_id
    ) AS log ON true
    CROSS JOIN LATERAL (
        SELECT array_agg(sequence) AS sequences,
               string_agg(timestamptz_send(recorded_at), '') AS times,
               array_agg(codec) AS codecs, array_agg(payload) AS payloads
        FROM (
            SELECT sequence, recorded_at, codec, payload
            FROM game_event
            WHERE game_event.game_id = wanted.game_id
              AND sequence > CASE
                  WHEN wanted.after BETWEEN log.floor AND log.head
                       AND (wanted.epoch IS NULL OR wanted.epoch = log.known_epoch)
                  THEN wanted.after ELSE log.floor END
            ORDER BY sequence
            LIMIT wanted.most
        ) AS event
    ) AS event
)
SELECT taken.place,
       taken.id, taken.game_id, taken.user_id, taken.generation, taken.last_acknowledged,
       taken.created_at, taken.heartbeat_at, taken.expires_at, 'live',
       taken.token_salt,
       page.known_epoch, page.head, page.floor,
       CASE WHEN first = place THEN sequences END, CASE WHEN first = place THEN times END,
       CASE WHEN first = place THEN codecs END, CASE WHEN first = place THEN payloads END
FROM taken
JOIN page ON page.page = taken.page
