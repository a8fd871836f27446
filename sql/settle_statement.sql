-- Says whether a statement whose connection broke was done, and sees to it that it never will be
-- if it was not, even should the server still have it to run: it then finds its number taken.
-- Returns one row: what it answered, or NULL if it did nothing. Asked again, it says the same.
-- Locks the receipt's row, and so waits for a statement that has noted its answer there and is
-- about to commit. Its own commit is durable only when that one is.
-- Index: statement_receipt_pkey.
INSERT INTO statement_receipt AS r (id, statement)
VALUES (%(receipt)s, %(statement)s)
ON CONFLICT (id) DO UPDATE
    SET statement = greatest(r.statement, excluded.statement),
        answer = CASE WHEN r.statement = excluded.statement THEN r.answer END,
        used_at = excluded.used_at
RETURNING answer
