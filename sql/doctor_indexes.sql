-- The indexes of the registry's tables, with those of their partitions.
-- Returns rows (index, its schema if not the first one, table, whether it can be used).
-- Locks nothing.
SELECT index.relname::text, index.oid::regclass::text, i.indrelid::regclass::text,
       i.indisvalid AND i.indisready
FROM (
    SELECT to_regclass(name) AS relid FROM unnest(%(tables)s::text[]) AS name
    UNION
    SELECT inhrelid
    FROM unnest(%(tables)s::text[]) AS name JOIN pg_inherits ON inhparent = to_regclass(name)
) AS part
JOIN pg_index AS i ON i.indrelid = relid
JOIN pg_class AS index ON index.oid = i.indexrelid
ORDER BY 1
