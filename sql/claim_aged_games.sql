-- Games that may have events past the retention, or nothing left; they are this transaction's
-- until it ends, so that the next statement's snapshot shows all that was written to them.
-- Locks those games' rows, as far as nobody else holds them.
-- Index: game_oldest.
SELECT game_id
FROM game
WHERE oldest_at < %(as_of)s - make_interval(secs => %(retention)s)
ORDER BY oldest_at
LIMIT %(batch_size)s
FOR UPDATE SKIP LOCKED
