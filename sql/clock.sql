-- The database's time, to which a cleanup of many statements holds itself, so that it ends.
-- Locks nothing.
SELECT now()
