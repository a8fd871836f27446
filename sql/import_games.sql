-- Begins the games of an import that are not there, each with a log that is empty at its floor.
-- Locks nothing that was there; it begins them in the order of game_ids, and waits for one that
-- somebody else begins just now.
-- Index: game_pkey.
INSERT INTO game (game_id, floor, head)
SELECT game_id, floor, floor
FROM unnest(%(game_ids)s::text[], %(floors)s::bigint[]) AS wanted (game_id, floor)
ON CONFLICT (game_id) DO NOTHING
