-- The rights to a table that others than its owner have.
-- Returns rows (role or NULL for everybody, privilege, whether it may be passed on).
-- Locks nothing.
SELECT CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee)::text END, privilege_type, is_grantable
FROM pg_class AS c, aclexplode(c.relacl)
WHERE c.oid = to_regclass(%(name)s) AND grantee <> c.relowner
ORDER BY 1, 2
