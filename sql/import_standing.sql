-- Where games stand that are to be imported, and of each the event at its head, or at the head that
-- it is to have if that is lower.
-- Returns a row (place in game_ids, floor, head, whether it has a session that was imported and has
-- had no token since, and sequence, recorded_at, codec, payload of that event) for each game that is
-- there; the last four are NULL if the event is not.
-- Locks nothing.
-- Indexes: game_pkey, game_event_pkey, game_session_pkey or game_session_game_id_user_id_key.
SELECT wanted.place, g.floor, g.head,
       -- Counted, since the planner could turn EXISTS into one look at all sessions.
       (SELECT count(*) FROM game_session AS s
        WHERE s.game_id = wanted.game_id AND s.token_hash = '') > 0,
       e.sequence, e.recorded_at, e.codec, e.payload
FROM unnest(%(game_ids)s::text[], %(heads)s::bigint[])
         WITH ORDINALITY AS wanted (game_id, head, place)
JOIN game AS g ON g.game_id = wanted.game_id
LEFT JOIN LATERAL (
    SELECT sequence, recorded_at, codec, payload
    FROM game_event
    WHERE game_event.game_id = wanted.game_id
      AND sequence = least(g.head, wanted.head) AND sequence > g.floor
    -- Keeps it apart from the join: so both lead into the index, of a small partition too.
    LIMIT 1
) AS e ON true
