-- Moves a session's acknowledgement forward, and prunes what every live session of the game has
-- acknowledged, at most batch_size events.
-- Returns one row (last acknowledged, head, floor, events pruned, whether there are more to
-- prune, epoch); the first is NULL when the session could not acknowledge. No row: no such game.
-- Locks, in this order: the game's row, only if its floor can rise; this session's row; then,
-- without waiting, the sessions that expired and still hold the floor.
-- The counts of locked and moved are there to make them happen first.
-- Everything read of other sessions is as old as the snapshot. That is safe: acknowledgements
-- only rise, a session that seemed to have expired is closed or else still counted, and one
-- begun since is noticed by the game's count of tokens.
-- Indexes: game_pkey, lineage_pkey, game_session_pkey, game_event_pkey, and for the game's sessions
-- game_session_pkey or game_session_game_id_user_id_key.
WITH log AS MATERIALIZED (
    SELECT head, floor, issued, known_epoch(epoch, (SELECT mark FROM lineage_mark)) AS epoch
    FROM game
    WHERE game_id = %(game_id)s
),
me AS MATERIALIZED (
    SELECT id, last_acknowledged
    FROM game_session
    WHERE game_id = %(game_id)s AND id = %(id)s
      AND closed IS NULL AND expires_at > now()
      AND generation = coalesce(%(generation)s::bigint, generation)
      AND %(sequence)s <= (SELECT head FROM log)
      AND coalesce(%(epoch)s::uuid = (SELECT epoch FROM log), true)
),
locked AS MATERIALIZED (
    SELECT g.floor, g.issued
    FROM game AS g
    WHERE g.game_id = %(game_id)s
      AND (SELECT floor FROM log) < (
          SELECT min(CASE WHEN s.id = me.id THEN greatest(s.last_acknowledged, %(sequence)s)
                          ELSE s.last_acknowledged END)
          FROM me, game_session AS s
          WHERE s.game_id = %(game_id)s AND s.closed IS NULL AND s.expires_at > now())
    FOR NO KEY UPDATE
),
moved AS (
    UPDATE game_session AS s
    SET last_acknowledged = greatest(s.last_acknowledged, %(sequence)s)
    FROM me
    WHERE s.game_id = %(game_id)s AND s.id = me.id
      AND %(sequence)s > me.last_acknowledged AND (SELECT count(*) FROM locked) >= 0
      AND s.closed IS NULL AND s.expires_at > now()
      AND s.generation = coalesce(%(generation)s::bigint, s.generation)
    RETURNING s.id, s.last_acknowledged
),
lapsed AS (
    UPDATE game_session AS s
    SET closed = 'expired'
    FROM (
        SELECT s.id
        FROM locked, game_session AS s
        WHERE s.game_id = %(game_id)s AND s.closed IS NULL AND s.expires_at <= now()
          AND (SELECT count(*) FROM moved) >= 0
        FOR NO KEY UPDATE OF s SKIP LOCKED
    ) AS late
    WHERE s.game_id = %(game_id)s AND s.id = late.id
    RETURNING s.id
),
mine AS MATERIALIZED (
    SELECT id, last_acknowledged FROM moved
    UNION ALL
    SELECT id, last_acknowledged FROM me WHERE %(sequence)s <= last_acknowledged
),
target AS MATERIALIZED (
    SELECT locked.floor, low.sequence AS low,
           least(low.sequence, locked.floor + %(batch_size)s) AS through
    FROM locked, log, LATERAL (
        -- Up to the head that the snapshot shows: later events it could not see to delete.
        SELECT least(min(coalesce(mine.last_acknowledged, s.last_acknowledged)), log.head)
        FROM game_session AS s LEFT JOIN mine ON mine.id = s.id
        WHERE s.game_id = %(game_id)s AND s.closed IS NULL
          AND NOT EXISTS (SELECT FROM lapsed WHERE lapsed.id = s.id)
    ) AS low (sequence)
    WHERE locked.issued = log.issued AND low.sequence > locked.floor
),
pruned AS (
    -- Not joined: so that both bounds lead into the index, of a partition that was empty too.
    DELETE FROM game_event
    WHERE game_id = %(game_id)s
      AND sequence > (SELECT floor FROM target) AND sequence <= (SELECT through FROM target)
    RETURNING 1
),
raised AS (
    UPDATE game SET floor = target.through
    FROM target
    WHERE game_id = %(game_id)s
    RETURNING game.floor
)
SELECT (SELECT last_acknowledged FROM mine),
       log.head,
       coalesce((SELECT floor FROM raised), (SELECT floor FROM locked), log.floor),
       (SELECT count(*) FROM pruned),
       coalesce((SELECT low > through FROM target), false),
       log.epoch
FROM log
