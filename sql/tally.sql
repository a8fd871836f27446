-- How many games, sessions and events there are, each counted up to a limit: what a command names
-- before it does what cannot be taken back. No id is empty, so all are met in the order of a key.
-- Returns one row (games, sessions, events).
-- Locks nothing.
-- Indexes: game_pkey, game_session_pkey, game_event_pkey.
SELECT (SELECT count(*)
        FROM (SELECT FROM game WHERE game_id > '' ORDER BY game_id LIMIT %(most)s) AS counted),
       (SELECT count(*)
        FROM (SELECT FROM game_session WHERE game_id > ''
              ORDER BY game_id, id LIMIT %(most)s) AS counted),
       (SELECT count(*)
        FROM (SELECT FROM game_event WHERE game_id > ''
              ORDER BY game_id, sequence LIMIT %(most)s) AS counted)
