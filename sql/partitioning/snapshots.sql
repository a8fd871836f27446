-- The transactions of this database, but for this one, that have a snapshot now.
-- Returns rows (process, virtual transaction).
-- Locks nothing.
SELECT l.pid, l.virtualtransaction
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.pid <> pg_backend_pid()
  AND a.datname = current_database() AND a.backend_xmin IS NOT NULL
  AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
