-- Holds all games, as `lock_one` holds one: for who copies at once.
-- Returns rows (game_id, floor).
-- Locks all games' rows, in the order of their ids.
-- Index: game_pkey.
SELECT game_id, floor FROM game ORDER BY game_id FOR NO KEY UPDATE
