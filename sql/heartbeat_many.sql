-- Beats many live sessions and returns those that it found; the others are gone.
-- Locks the sessions' rows in the order of game and player, so that two of these never deadlock.
-- (The id of a row changes when its player's session begins anew.)
-- Index: game_session_pkey.
WITH beating AS MATERIALIZED (
    SELECT s.game_id, s.id
    FROM unnest(%(game_ids)s::text[], %(ids)s::uuid[], %(generations)s::bigint[])
             AS beat (game_id, id, generation)
    JOIN game_session AS s ON s.game_id = beat.game_id AND s.id = beat.id
    WHERE s.closed IS NULL AND s.expires_at > now()
      AND s.generation = coalesce(beat.generation, s.generation)
    ORDER BY s.game_id, s.user_id
    FOR NO KEY UPDATE OF s
)
UPDATE game_session AS s
SET heartbeat_at = greatest(s.heartbeat_at, now()),
    expires_at = greatest(s.expires_at, now() + s.ttl)
FROM beating
WHERE s.game_id = beating.game_id AND s.id = beating.id
RETURNING s.game_id, s.id, s.generation
