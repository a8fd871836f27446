-- A table as the catalogue has it: one row (schema, owner, whether it is partitioned, by which
-- strategy, by which columns, its columns, its indexes and those of its partitions), or none.
-- Locks nothing.
SELECT n.nspname, pg_get_userbyid(c.relowner), c.relkind = 'p',
       coalesce(p.partstrat::text, ''),
       (SELECT array_agg(attname::text ORDER BY position)
        FROM unnest(p.partattrs) WITH ORDINALITY AS key (attnum, position)
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = key.attnum),
       (SELECT array_agg(attname::text ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
       coalesce((SELECT array_agg(index.relname::text ORDER BY index.relname)
                 FROM (SELECT c.oid UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid)
                      AS part (oid)
                 JOIN pg_index AS i ON i.indrelid = part.oid
                 JOIN pg_class AS index ON index.oid = i.indexrelid), '{}')
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_partitioned_table AS p ON p.partrelid = c.oid
WHERE c.oid = to_regclass(%(name)s) AND c.relkind IN ('r', 'p')
