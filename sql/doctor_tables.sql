-- How the registry's tables, with their partitions, are vacuumed, by the server's statistics.
-- Returns rows (table, live rows, dead rows, seconds since the last vacuum or NULL if there was
-- none, whether autovacuum may work on it).
-- Locks nothing.
SELECT relid::regclass::text, pg_stat_get_live_tuples(relid), pg_stat_get_dead_tuples(relid),
       extract(epoch FROM now() - greatest(pg_stat_get_last_vacuum_time(relid),
                                           pg_stat_get_last_autovacuum_time(relid)))::float8,
       NOT EXISTS (
           SELECT FROM pg_options_to_table(c.reloptions)
           WHERE option_name = 'autovacuum_enabled' AND NOT option_value::boolean)
FROM (
    SELECT to_regclass(name) AS relid FROM unnest(%(tables)s::text[]) AS name
    UNION
    SELECT inhrelid
    FROM unnest(%(tables)s::text[]) AS name JOIN pg_inherits ON inhparent = to_regclass(name)
) AS part
JOIN pg_class AS c ON c.oid = relid
WHERE c.relkind = 'r'
ORDER BY 1
