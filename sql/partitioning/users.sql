-- Who has what a conversion waits for, three at most, the longest first.
-- Returns rows (process, whether it is vacuum).
-- Locks nothing.
SELECT l.pid, bool_or(l.mode = 'ShareUpdateExclusiveLock')
FROM pg_locks AS l LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.relation IN (
      SELECT to_regclass(name) FROM unnest(%(names)s::text[]) AS name
      UNION SELECT inhrelid
      FROM unnest(%(names)s::text[]) AS name JOIN pg_inherits ON inhparent = to_regclass(name))
GROUP BY l.pid, a.xact_start
ORDER BY a.xact_start
LIMIT 3
