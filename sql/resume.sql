-- Takes a session over for whoever presents its newest token or the one before: next generation,
-- beat, token rotated; and the first page of what the client missed, in the same snapshot.
-- Returns one row, or none when the token opens no live session.
-- Hashes are compared under a nonce, so that the time taken tells nothing about them.
-- Locks the session's row; of two at once the second sees what the first left.
-- Indexes: game_session_pkey, game_pkey, lineage_pkey, game_event_pkey.
WITH taken AS (
    UPDATE game_session AS s
    SET generation = s.generation + 1,
        heartbeat_at = greatest(s.heartbeat_at, now()),
        expires_at = greatest(s.expires_at, now() + s.ttl),
        -- The newest is used for the first time: the one before it retires. Or else the one
        -- before is here again, its reply was lost, and it gets the same newest again.
        (token_hash, previous_token_hash, token_salt, retired_token_hashes) = (
            SELECT %(next_hash)s::bytea, s.token_hash, %(salt)s::bytea,
                   CASE WHEN s.previous_token_hash IS NULL THEN s.retired_token_hashes
                        ELSE (s.previous_token_hash || s.retired_token_hashes)[:8] END
            WHERE sha256(s.token_hash || %(nonce)s::bytea) = %(blinded)s::bytea
            UNION ALL
            SELECT s.token_hash, s.previous_token_hash, s.token_salt, s.retired_token_hashes
            WHERE sha256(s.token_hash || %(nonce)s::bytea) <> %(blinded)s::bytea
        )
    WHERE s.game_id = %(game_id)s AND s.id = %(id)s
      AND (sha256(s.token_hash || %(nonce)s::bytea) = %(blinded)s::bytea
           OR sha256(s.previous_token_hash || %(nonce)s::bytea) = %(blinded)s::bytea)
      AND s.closed IS NULL AND s.expires_at > now()
    RETURNING s.*
)
SELECT taken.id, taken.game_id, taken.user_id, taken.generation, taken.last_acknowledged,
       taken.created_at, taken.heartbeat_at, taken.expires_at, 'live',
       taken.token_salt,
       log.known_epoch, log.head, log.floor,
       page.sequences, page.times, page.codecs, page.payloads
FROM taken
JOIN LATERAL (
    SELECT known_epoch(epoch, (SELECT mark FROM lineage_mark)), head, floor
    FROM game
    WHERE game_id = %(game_id)s
) AS log ON true
CROSS JOIN LATERAL (
    SELECT array_agg(sequence) AS sequences,
           string_agg(timestamptz_send(recorded_at), '') AS times,
           array_agg(codec) AS codecs, array_agg(payload) AS payloads
    FROM (
        SELECT sequence, recorded_at, codec, payload
        FROM game_event
        WHERE game_id = %(game_id)s
          AND sequence > CASE
              WHEN %(after)s BETWEEN log.floor AND log.head
                   AND (%(epoch)s::uuid IS NULL OR %(epoch)s::uuid = log.known_epoch)
              THEN %(after)s ELSE log.floor END
        ORDER BY sequence
        LIMIT %(limit)s
    ) AS event
) AS page
