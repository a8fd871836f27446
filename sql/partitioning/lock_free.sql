-- Holds games against all that write their events, until the transaction ends.
-- Returns rows (game_id, floor) of those that nobody else holds.
-- Locks these games' rows, in the order of their ids, without waiting.
-- Index: game_pkey.
SELECT game_id, floor
FROM game
WHERE game_id = ANY (%(game_ids)s)
ORDER BY game_id
FOR NO KEY UPDATE SKIP LOCKED
