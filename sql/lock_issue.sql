-- Holds a player, where the sessions of all games are counted, and the game against every other
-- issue that counts, until the transaction ends: so the next statement's snapshot shows all the
-- sessions that count.
-- Locks the player's name (an advisory lock of the transaction), then the game's row.
-- Index: game_pkey.
WITH player AS MATERIALIZED (
    -- Beside the locks of migrations, which have one number, this has two: 'game' and a hash.
    SELECT pg_advisory_xact_lock(1734438245, hashtext(%(user_id)s::text))
    WHERE %(most_per_user)s::bigint IS NOT NULL
)
SELECT head
FROM game
WHERE game_id = %(game_id)s AND (SELECT count(*) FROM player) >= 0
FOR NO KEY UPDATE
