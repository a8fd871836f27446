-- The database's time at this moment, whenever its transaction began.
-- Locks nothing.
SELECT clock_timestamp()
