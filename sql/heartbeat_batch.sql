-- Beats many live sessions, each for its own connection.
-- Returns a row (place in ids, session) for each session that it beat. The others are locked by
-- somebody, gone, or of another generation.
-- Locks the sessions' rows, without waiting.
-- Index: game_session_pkey.
WITH beating AS MATERIALIZED (
    SELECT s.game_id, s.id, beat.place
    FROM unnest(%(game_ids)s::text[], %(ids)s::uuid[], %(generations)s::bigint[])
             WITH ORDINALITY AS beat (game_id, id, generation, place)
    JOIN game_session AS s ON s.game_id = beat.game_id AND s.id = beat.id
    WHERE s.closed IS NULL AND s.expires_at > now()
      AND s.generation = coalesce(beat.generation, s.generation)
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE game_session AS s
SET heartbeat_at = greatest(s.heartbeat_at, now()),
    expires_at = greatest(s.expires_at, now() + s.ttl)
FROM beating
WHERE s.game_id = beating.game_id AND s.id = beating.id
RETURNING beating.place, s.id, s.game_id, s.user_id, s.generation, s.last_acknowledged,
          s.created_at, s.heartbeat_at, s.expires_at, 'live'
