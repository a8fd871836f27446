-- The server's clock, as this statement begins.
-- Locks nothing.
SELECT clock_timestamp()
