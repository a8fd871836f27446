-- Games that may have events past the retention, or nothing left; they are this transaction's
-- until it ends, so that the next statement's snapshot shows all that was written to them.
-- No more than a tenth of a batch, so that each has a fair part of it.
-- Locks those games' rows, as far as nobody else holds them.
-- Index: game_oldest.
SELECT game_id
FROM game
WHERE oldest_at < %(as_of)s - make_interval(secs => %(retention)s)
ORDER BY oldest_at
LIMIT %(batch_size)s::bigint / 10 + 1
FOR UPDATE SKIP LOCKED
