-- Lets another connection convert.
-- Locks nothing.
SELECT pg_advisory_unlock(%(lock)s)
