-- What keeps vacuum from removing dead rows of this database: transactions and snapshots that have
-- been open for long, here or on a standby that reports its own, prepared transactions, and
-- replication slots; with slots that hold back the write-ahead log only, because nobody reads them.
-- Returns rows (kind, which, age in seconds or NULL, what it is).
-- Locks nothing.
SELECT 'transaction', pid::text, extract(epoch FROM clock_timestamp() - xact_start)::float8,
       concat_ws(', ', state, nullif(application_name, ''), usename)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
  AND backend_type <> 'autovacuum worker'
  AND xact_start < clock_timestamp() - make_interval(secs => %(longest)s)
UNION ALL
SELECT 'prepared', gid, extract(epoch FROM clock_timestamp() - prepared)::float8,
       concat_ws(', ', owner, database)
FROM pg_prepared_xacts
WHERE database = current_database()
  AND prepared < clock_timestamp() - make_interval(secs => %(longest)s)
UNION ALL
SELECT 'standby', coalesce(nullif(application_name, ''), pid::text), NULL,
       age(backend_xmin) || ' transactions ago'
FROM pg_stat_replication
WHERE age(backend_xmin) > %(transactions)s
UNION ALL
SELECT 'slot', slot_name, NULL,
       concat_ws(', ', slot_type, CASE WHEN active THEN 'active' ELSE 'inactive' END,
                 age(coalesce(xmin, catalog_xmin)) || ' transactions ago')
FROM pg_replication_slots
WHERE NOT temporary AND (NOT active OR age(xmin) > %(transactions)s)
ORDER BY 1, 3 DESC
LIMIT 100
