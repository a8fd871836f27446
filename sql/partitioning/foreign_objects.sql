-- What a swap would leave with the old table: views, foreign keys, triggers, indexes, policies,
-- publications. Returns rows (what it is, in words).
-- Locks nothing.
SELECT DISTINCT pg_describe_object(d.classid, d.objid, 0)
FROM pg_depend AS d
LEFT JOIN pg_index AS i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
LEFT JOIN pg_constraint AS k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
LEFT JOIN pg_trigger AS t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass(%(name)s)
  AND d.deptype IN ('n', 'a')
  AND NOT coalesce(i.indisprimary, false)
  AND coalesce(k.contype, 'f') NOT IN ('p', 'n', 'c')
  AND NOT coalesce(t.tgname = ANY (%(triggers)s) OR t.tgisinternal, false)
  AND NOT (d.classid = 'pg_class'::regclass
           AND d.objid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%(name)s)))
ORDER BY 1
