-- Whether one of the next so many games has an event above its floor in a partition ({leaf}).
-- Returns one row (the last of these games, how many they are, whether one has).
-- Locks nothing.
-- Indexes: game_pkey, and the key of the partition.
SELECT max(game_id), count(*), coalesce(bool_or(above), false)
FROM (
    SELECT g.game_id, EXISTS (SELECT FROM {leaf} AS e
                              WHERE e.game_id = g.game_id AND e.sequence > g.floor) AS above
    FROM game AS g
    WHERE g.game_id > %(after)s
    ORDER BY g.game_id
    LIMIT %(games)s
) AS page
