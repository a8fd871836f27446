-- Moves many sessions' acknowledgements forward, where that prunes nothing because another live
-- session of the game holds the floor.
-- Returns a row (place in ids, then as acknowledge.sql) for each session that it moved. The others
-- are locked by somebody, need not be moved, can raise the floor, or there is something to refuse.
-- What it reads of other sessions is as old as the snapshot: one that has acknowledged since leaves
-- the pruning to the next acknowledgement.
-- Locks the sessions' rows, without waiting.
-- Indexes: game_pkey, lineage_pkey, game_session_pkey, and for the game's sessions
-- game_session_pkey or game_session_game_id_user_id_key.
WITH asked AS MATERIALIZED (
    SELECT *
    FROM unnest(%(game_ids)s::text[], %(ids)s::uuid[], %(sequences)s::bigint[],
                %(generations)s::bigint[], %(epochs)s::uuid[])
             WITH ORDINALITY AS asked (game_id, id, sequence, generation, epoch, place)
),
moving AS MATERIALIZED (
    SELECT asked.*, log.head, log.floor, log.known
    FROM asked
    JOIN LATERAL (
        SELECT head, floor, known_epoch(game.epoch, (SELECT mark FROM lineage_mark)) AS known
        FROM game
        WHERE game.game_id = asked.game_id
    ) AS log ON asked.sequence <= log.head AND coalesce(asked.epoch = log.known, true)
    JOIN game_session AS s ON s.game_id = asked.game_id AND s.id = asked.id
    WHERE s.closed IS NULL AND s.expires_at > now()
      AND s.generation = coalesce(asked.generation, s.generation)
      AND asked.sequence > s.last_acknowledged
      AND EXISTS (
          SELECT FROM game_session AS other
          WHERE other.game_id = asked.game_id AND other.id <> asked.id
            AND other.closed IS NULL AND other.expires_at > now()
            AND other.last_acknowledged <= log.floor)
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
UPDATE game_session AS s
SET last_acknowledged = moving.sequence
FROM moving
WHERE s.game_id = moving.game_id AND s.id = moving.id
RETURNING moving.place, s.last_acknowledged, moving.head, moving.floor, 0, false, moving.known
