-- The time that the oldest event of all was recorded at or after; no row without events.
-- Locks nothing.
-- Index: game_oldest.
SELECT oldest_at FROM game WHERE head > floor ORDER BY oldest_at LIMIT 1
