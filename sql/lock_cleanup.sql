-- Whether this transaction is the only one that cleans up these tables; if so, until it ends.
-- Of the transaction, not of the session: behind a pooler the next statement of a session may run
-- on another connection, and a lock of this one would stay with whoever gets it next.
-- Returns one row (a boolean), without waiting.
-- Locks nothing but that: no row.
-- Index: none, the table is only named.
SELECT pg_try_advisory_xact_lock(1919382896, 'game'::regclass::oid::integer)
