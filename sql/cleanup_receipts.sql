-- Forgets those of the next batch_size receipts that no statement has used for as long as the
-- retention, and for a day at least.
-- Returns one row (last id of the batch, how many it had), or no row when there are no more. There
-- are few receipts, and an index on the time would cost every append.
-- Locks those receipts' rows, as far as nobody else holds them.
-- Index: statement_receipt_pkey.
WITH batch AS MATERIALIZED (
    SELECT id
    FROM statement_receipt
    WHERE id > %(after)s
    ORDER BY id
    LIMIT %(batch_size)s
),
unused AS MATERIALIZED (
    SELECT r.id
    FROM batch
    JOIN statement_receipt AS r ON r.id = batch.id
    WHERE r.used_at < %(as_of)s - greatest(make_interval(secs => %(retention)s), '1 day')
    FOR UPDATE OF r SKIP LOCKED
),
forgotten AS (
    DELETE FROM statement_receipt AS r
    USING unused
    WHERE r.id = unused.id
)
SELECT id, (SELECT count(*) FROM batch) FROM batch ORDER BY id DESC LIMIT 1
