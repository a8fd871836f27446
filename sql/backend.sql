-- The number of the server's process. If it is not what the connection was told when it began, there
-- is a pooler in between.
-- Locks nothing.
SELECT pg_backend_pid()
