-- Whether this connection may convert: only one at a time does, until it says so or closes.
-- Locks nothing but the conversion (an advisory lock of the connection), without waiting.
SELECT pg_try_advisory_lock(%(lock)s)
