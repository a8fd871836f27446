-- Where the logs of some games stand: of those that are watched, of those that began last (or
-- whose log was last cleaned up), and of the next ones in the order of their ids, so that who goes
-- on from there has met every game after a while. Reads a bounded number of rows, however many
-- games there are: none is looked for by its last append, which no index may hold (an append
-- would move the entry).
-- Returns a row for each, perhaps more than one (game_id, epoch, head, floor, seconds since the
-- last append, whether it is one of the next in order).
-- Locks nothing.
-- Indexes: game_pkey, game_oldest.
SELECT game_id, epoch, head, floor, extract(epoch FROM now() - head_at)::float8, false
FROM game
WHERE game_id = ANY (%(watched)s::text[])
UNION ALL (
    SELECT game_id, epoch, head, floor, extract(epoch FROM now() - head_at)::float8, false
    FROM game
    WHERE oldest_at <= now()
    ORDER BY oldest_at DESC
    LIMIT %(newest)s
)
UNION ALL (
    SELECT game_id, epoch, head, floor, extract(epoch FROM now() - head_at)::float8, true
    FROM game
    WHERE game_id > %(after)s
    ORDER BY game_id
    LIMIT %(next)s
)
