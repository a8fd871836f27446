-- Deletes the events of a game up to a sequence, at most batch_size of them, and raises the
-- floor over them.
-- Returns one row (head, floor, events deleted), or none when there is no such game.
-- Locks the game's row. It goes no further than the head its snapshot shows, since it could not
-- see later events to delete them.
-- Indexes: game_pkey, game_event_pkey.
WITH log AS MATERIALIZED (
    SELECT head FROM game WHERE game_id = %(game_id)s
),
locked AS MATERIALIZED (
    SELECT g.floor, least(%(through)s, log.head, g.floor + %(batch_size)s) AS through
    FROM game AS g, log
    WHERE g.game_id = %(game_id)s AND %(through)s <= log.head
    FOR NO KEY UPDATE OF g
),
pruned AS (
    -- Not joined: so that both bounds lead into the index, of a partition that was empty too.
    DELETE FROM game_event
    WHERE game_id = %(game_id)s
      AND sequence > (SELECT floor FROM locked) AND sequence <= (SELECT through FROM locked)
    RETURNING 1
),
raised AS (
    UPDATE game SET floor = locked.through
    FROM locked
    WHERE game_id = %(game_id)s AND locked.through > locked.floor
    RETURNING game.floor
)
SELECT log.head,
       coalesce((SELECT floor FROM raised), (SELECT floor FROM locked)),
       (SELECT count(*) FROM pruned)
FROM log
