-- Holds a game against every writer until the transaction ends, so that the next statement's
-- snapshot shows all that was ever written to it.
-- Locks the game's row.
-- Index: game_pkey.
SELECT head FROM game WHERE game_id = %(game_id)s FOR UPDATE
