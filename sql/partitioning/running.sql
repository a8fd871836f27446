-- A row if a connection of this database is at a conversion just now (it has `take_turn`).
-- Locks nothing.
SELECT FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND classid::bigint << 32 | objid::bigint = %(lock)s
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
