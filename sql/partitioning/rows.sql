-- About how many rows a partition has, by the server's statistics: one row, or none without it.
-- Locks nothing.
SELECT greatest(reltuples, pg_stat_get_live_tuples(oid), 0)::bigint
FROM pg_class WHERE oid = to_regclass(%(name)s)
