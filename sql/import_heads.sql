-- Moves the heads of games over the events that the same transaction imports, and their floors over
-- what the source has no more; deletes what is not above them any more. Counts the sessions among
-- the tokens issued, so that a prune under way notices them.
-- Returns a row (place in game_ids) for each game that it moved. The others do not stand where they
-- were seen (after) or are gone: the caller rolls back. A NULL there asks for no more than the game.
-- Locks the games' rows, in the order of game_ids, then the events that it deletes.
-- Indexes: game_pkey, game_event_pkey.
WITH locked AS MATERIALIZED (
    SELECT wanted.*, g.floor AS was
    FROM unnest(%(game_ids)s::text[], %(floors)s::bigint[], %(afters)s::bigint[],
                %(heads)s::bigint[], %(head_ats)s::timestamptz[], %(oldest_ats)s::timestamptz[],
                %(sessions)s::integer[])
             WITH ORDINALITY
             AS wanted (game_id, floor, after, head, head_at, oldest_at, sessions, place)
    JOIN game AS g ON g.game_id = wanted.game_id
    WHERE wanted.after IS NULL OR g.head = wanted.after
    FOR NO KEY UPDATE OF g
),
old AS MATERIALIZED (
    SELECT locked.game_id, event.*
    FROM locked
    CROSS JOIN LATERAL (
        SELECT sequence, recorded_at, tableoid AS part, ctid AS place
        FROM game_event
        -- What was not above it before is for a sweep to delete, perhaps just now.
        WHERE game_event.game_id = locked.game_id
          AND sequence > locked.was AND sequence <= locked.floor
        ORDER BY sequence
        OFFSET 0
    ) AS event
),
forgotten AS (
    -- By where the rows are: see sweep_events.sql.
    DELETE FROM game_event AS e
    USING old
    WHERE e.game_id = old.game_id AND e.sequence = old.sequence
      AND e.recorded_at = old.recorded_at AND e.tableoid = old.part AND e.ctid = old.place
)
UPDATE game AS g
SET head = greatest(g.head, locked.head),
    floor = greatest(g.floor, locked.floor),
    -- Those of a log that was empty are the time of its row.
    head_at = CASE WHEN g.head > g.floor THEN greatest(g.head_at, locked.head_at)
                   ELSE coalesce(locked.head_at, g.head_at) END,
    oldest_at = least(g.oldest_at, locked.oldest_at),
    issued = g.issued + locked.sessions
FROM locked
WHERE g.game_id = locked.game_id AND (locked.after IS NULL OR g.head = locked.after)
RETURNING locked.place
