-- Forgets at most batch_size receipts that no statement has used for as long as the retention, and
-- for a day at least, and returns how many.
-- Locks those receipts' rows, as far as nobody else holds them.
-- Indexes: statement_receipt_opened, statement_receipt_pkey.
WITH unused AS MATERIALIZED (
    SELECT id
    FROM statement_receipt
    WHERE opened_at < %(as_of)s - greatest(make_interval(secs => %(retention)s), '1 day')
      AND used_at < %(as_of)s - greatest(make_interval(secs => %(retention)s), '1 day')
    ORDER BY opened_at
    LIMIT %(batch_size)s
    FOR UPDATE SKIP LOCKED
),
forgotten AS (
    DELETE FROM statement_receipt AS r
    USING unused
    WHERE r.id = unused.id
    RETURNING 1
)
SELECT count(*) FROM forgotten
