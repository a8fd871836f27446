-- Whether a conversion is under way: then its table is there.
-- Locks nothing.
SELECT to_regclass(%(name)s) IS NOT NULL
