-- About how many rows the partition for the rest has, by the server's statistics; 0 without it.
-- Locks nothing.
SELECT coalesce(pg_stat_get_live_tuples(to_regclass(%(name)s)), 0)
