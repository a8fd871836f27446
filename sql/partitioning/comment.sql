-- The comment of a table: one row, NULL without one.
-- Locks nothing.
SELECT obj_description(to_regclass(%(name)s), 'pg_class')
