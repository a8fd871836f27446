-- Events to train a dictionary on: the newest ones of the games that began last (or whose log was
-- last cleaned up), as many of each, until they are enough together in number or in bytes.
-- Reads a bounded number of rows, however many there are.
-- Locks nothing.
-- Indexes: game_oldest, game_event_pkey.
WITH recent AS MATERIALIZED (
    SELECT game_id, floor, head
    FROM game
    WHERE oldest_at <= now()
    ORDER BY oldest_at DESC
    LIMIT %(games)s
)
SELECT codec, payload
FROM (
    SELECT codec, payload, sum(octet_length(payload)) OVER (ROWS UNBOUNDED PRECEDING) AS so_far
    FROM recent
    CROSS JOIN LATERAL (
        SELECT codec, payload
        FROM game_event
        WHERE game_event.game_id = recent.game_id AND sequence > recent.floor
        ORDER BY sequence DESC
        LIMIT (SELECT 1 + %(events)s / greatest(count(*), 1)
               FROM recent WHERE head > recent.floor)
    ) AS event
) AS sampled
WHERE so_far <= %(bytes)s
