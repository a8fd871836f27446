-- A row if there is any event.
-- Locks nothing.
-- Index: none, the first row that there is.
SELECT FROM game_event LIMIT 1
