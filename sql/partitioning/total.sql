-- How many events there are to copy, at most.
-- Locks nothing.
-- Index: none, it looks at each game.
SELECT coalesce(sum(head - floor), 0)::bigint FROM game
