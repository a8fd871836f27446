-- Games that may have events past the retention, or nothing left, or rows at or below their floor
-- that are still to be deleted; they are this transaction's until it ends, so that the next
-- statement's snapshot shows all that was written to them. No more than a tenth of a batch, so that
-- each has a fair part of it, and than a hundred, each of which is an advisory lock of the sweep.
-- Returns rows (game_id, epoch).
-- Locks those games' rows, as far as nobody else holds them.
-- Index: game_oldest.
SELECT game_id, epoch
FROM game
WHERE oldest_at < %(as_of)s - make_interval(secs => %(retention)s)
ORDER BY oldest_at
LIMIT least(%(batch_size)s::bigint / 10 + 1, 100)
FOR UPDATE SKIP LOCKED
