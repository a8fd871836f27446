-- Holds a game against all that write its events, until the transaction ends.
-- Returns a row (game_id, floor), or none when it is gone.
-- Locks the game's row, and waits for who holds it.
-- Index: game_pkey.
SELECT game_id, floor FROM game WHERE game_id = %(game_id)s FOR NO KEY UPDATE
