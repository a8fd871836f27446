-- Whether this role has the rights of another.
-- Locks nothing.
SELECT pg_has_role(%(owner)s, 'USAGE')
