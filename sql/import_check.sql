-- What there is of imported games: their rows are counted, not believed.
-- Returns a row (place in game_ids, floor, head, events, first and last sequence, fingerprint) for
-- each game that is there. The fingerprint tells which time stands at which sequence; registry/prisma/
-- source.py has the same of the source.
-- Locks nothing.
-- Indexes: game_pkey, game_event_pkey.
SELECT wanted.place, g.floor, g.head, log.events, log.first, log.last, log.fingerprint
FROM unnest(%(game_ids)s::text[]) WITH ORDINALITY AS wanted (game_id, place)
JOIN game AS g ON g.game_id = wanted.game_id
CROSS JOIN LATERAL (
    SELECT count(*) AS events, min(e.sequence) AS first, max(e.sequence) AS last,
           sum(mod(e.sequence, 1000003)
               * mod((extract(epoch FROM e.recorded_at) * 1000000)::bigint, 1000000007))
               AS fingerprint
    FROM game_event AS e
    WHERE e.game_id = wanted.game_id AND e.sequence > g.floor
) AS log
