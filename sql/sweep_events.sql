-- Deletes events that lie at or below the floors of some games, in order, at most batch_size in all,
-- and of each game those after a sequence up to which there are none any more. Nobody can read
-- them: a replay is bounded by the floor that its own snapshot shows.
-- Returns a row (game_id, sequence up to which there are none any more, whether that is the floor,
-- events deleted in all) for each game that nobody else sweeps or ends just now. Only logs of the
-- given epochs, where one is given.
-- Locks, without waiting, the sweep of each game (an advisory lock of the transaction), so that of
-- two only one deletes; and the games' rows against their end, in a way that no append, prune or
-- acknowledgement waits for. These delete only above the floor that was there before them, so no
-- row is wanted by two, and this waits for nobody.
-- The floor is the one of the snapshot, all of whose events that shows: the lock may read a higher
-- one. It passes over a game that was ended since, whose id may stand for another log by now.
-- Indexes: game_pkey, game_event_pkey.
WITH relaxed AS MATERIALIZED (
    -- Does not wait for the disk: the floor is safe already, and rows that a crash brings back are
    -- deleted by the next sweep.
    SELECT set_config('synchronous_commit', 'off', true)
),
log AS MATERIALIZED (
    SELECT g.game_id, g.epoch, g.floor, wanted.after
    FROM unnest(%(game_ids)s::text[], %(epochs)s::uuid[], %(afters)s::bigint[])
             AS wanted (game_id, epoch, after)
    JOIN game AS g ON g.game_id = wanted.game_id
    WHERE coalesce(g.epoch = wanted.epoch, true)
),
held AS MATERIALIZED (
    SELECT log.*
    FROM relaxed, log
    JOIN game AS g ON g.game_id = log.game_id AND g.epoch = log.epoch
    WHERE pg_try_advisory_xact_lock(
        hashtextextended(log.game_id, 'game'::regclass::oid::bigint))
    FOR KEY SHARE OF g SKIP LOCKED
),
reached AS MATERIALIZED (
    SELECT held.*, page.*,
           page.events < greatest(%(batch_size)s::bigint / cardinality(%(game_ids)s::text[]), 1)
               AS done
    FROM held
    CROSS JOIN LATERAL (
        SELECT max(sequence) AS through, count(*) AS events,
               array_agg(sequence) AS sequences, array_agg(recorded_at) AS times,
               array_agg(part) AS parts, array_agg(place) AS places
        FROM (
            SELECT sequence, recorded_at, tableoid AS part, ctid AS place
            FROM game_event
            WHERE game_event.game_id = held.game_id
              AND sequence > held.after AND sequence <= held.floor
            ORDER BY sequence
            LIMIT greatest(%(batch_size)s::bigint / cardinality(%(game_ids)s::text[]), 1)
        ) AS oldest
    ) AS page
),
old AS MATERIALIZED (
    SELECT reached.game_id, row.*
    FROM reached,
         unnest(reached.sequences, reached.times, reached.parts, reached.places)
             AS row (sequence, recorded_at, part, place)
),
deleted AS (
    -- By where the rows are: by their keys alone each would be looked for in every partition by
    -- time, and in one that was empty when this was planned, not even by its index.
    DELETE FROM game_event AS e
    USING old
    WHERE e.game_id = old.game_id AND e.sequence = old.sequence
      AND e.recorded_at = old.recorded_at AND e.tableoid = old.part AND e.ctid = old.place
    RETURNING 1
)
SELECT game_id, CASE WHEN done THEN floor ELSE through END, done, (SELECT count(*) FROM deleted)
FROM reached
