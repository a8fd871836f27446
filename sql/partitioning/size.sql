-- How many bytes a table takes on the disk, with its partitions and indexes.
-- Locks nothing.
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
FROM (SELECT to_regclass(%(name)s) AS oid
      UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%(name)s)) AS part
