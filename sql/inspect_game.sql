-- Where the log of one game stands, and for how long.
-- Returns one row (time, epoch as clients know it, head, floor, seconds since the last append,
-- seconds up to which no event is older, tokens issued), or none when there is no such game.
-- Locks nothing.
-- Indexes: game_pkey, lineage_pkey.
SELECT now(), known_epoch(epoch, (SELECT mark FROM lineage_mark)), head, floor,
       extract(epoch FROM now() - head_at)::float8,
       extract(epoch FROM now() - oldest_at)::float8,
       issued
FROM game
WHERE game_id = %(game_id)s
