-- Which part of which games comes next, behind a position. A game counts for a row more than it
-- has, so that empty ones count as well.
-- Returns rows (game_id, after, through), where a game is done with this its through is 2^63 - 1.
-- Locks nothing.
-- Index: game_pkey.
SELECT game_id, after,
       CASE WHEN head - after <= %(rows)s - before THEN 9223372036854775807
            ELSE after + %(rows)s - before END::bigint
FROM (
    SELECT game_id, head, after,
           coalesce(sum(head - after + 1) OVER (
               ORDER BY game_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
        SELECT game_id, head,
               greatest(floor, CASE WHEN game_id = %(game_id)s THEN %(sequence)s END) AS after
        FROM game
        WHERE game_id >= %(game_id)s AND (game_id, head) > (%(game_id)s, %(sequence)s)
        ORDER BY game_id
        LIMIT %(rows)s
    ) AS ahead
) AS sized
WHERE before < %(rows)s
ORDER BY game_id
