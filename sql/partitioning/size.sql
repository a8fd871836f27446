-- How many bytes a table takes on the disk, with its partitions and indexes.
-- Locks nothing.
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint
FROM (SELECT to_regclass(%(name)s) AS oid
      UNION SELECT relid FROM pg_partition_tree(to_regclass(%(name)s))) AS part
