-- Deletes a game with all that belongs to it and returns how many games that was, 0 or 1.
-- Runs behind lock_game.sql in one transaction.
-- Locks the game's row, then its sessions' rows in the order of their keys.
-- Indexes: game_pkey, game_session_pkey, game_event_pkey, game_event_id_pkey.
WITH locked AS MATERIALIZED (
    SELECT id FROM game_session WHERE game_id = %(game_id)s ORDER BY id FOR UPDATE
),
sessions AS (
    DELETE FROM game_session
    WHERE game_id = %(game_id)s AND (SELECT count(*) FROM locked) > 0
),
events AS (
    DELETE FROM game_event WHERE game_id = %(game_id)s
),
event_ids AS (
    DELETE FROM game_event_id WHERE game_id = %(game_id)s
),
ended AS (
    DELETE FROM game WHERE game_id = %(game_id)s RETURNING 1
)
SELECT count(*) FROM ended
