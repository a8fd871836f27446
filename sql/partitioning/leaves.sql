-- The tables that hold the rows of a table: its partitions, or itself.
-- Returns rows (name, storage parameters, lower and upper bound of a partition by time), by their
-- bounds. Those are written and read again in the same session, so by the same settings.
-- Locks nothing.
SELECT relname::text, coalesce(reloptions, '{}'),
       bound[1]::timestamptz, bound[2]::timestamptz
FROM (
    SELECT c.*, regexp_match(pg_get_expr(c.relpartbound, c.oid),
                             $$FROM \('([^']+)'\) TO \('([^']+)'\)$$) AS bound
    FROM (SELECT to_regclass(%(name)s) AS oid
          UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%(name)s)) AS part
    JOIN pg_class AS c ON c.oid = part.oid
    WHERE c.relkind = 'r'
) AS leaf
ORDER BY bound[1]::timestamptz, relname
