-- Where the server stands: is it a standby, how many connections there are and how many more there
-- may be for who is no superuser, whether other roles' connections can be seen, and the settings
-- asked for: for this role in this database before anything was set on the connection.
-- Returns one row (whether a standby, connections, connections left, connections left to this role
-- and to this database or NULL if they have no limit of their own, role, whether all is seen,
-- settings as a JSON object of texts).
-- Locks nothing.
SELECT pg_is_in_recovery(), backend.connections,
       current_setting('max_connections')::bigint
           - current_setting('superuser_reserved_connections')::bigint
           - coalesce(current_setting('reserved_connections', true)::bigint, 0)
           - backend.connections,
       least((SELECT nullif(rolconnlimit, -1) - backend.of_role
              FROM pg_roles WHERE rolname = current_user),
             (SELECT nullif(datconnlimit, -1) - backend.of_database
              FROM pg_database WHERE datname = current_database())),
       current_user::text, pg_has_role('pg_read_all_stats', 'USAGE'),
       (SELECT jsonb_object_agg(name, reset_val)
        FROM pg_settings WHERE name = ANY (%(settings)s::text[]))
FROM (
    SELECT count(*) AS connections,
           count(*) FILTER (WHERE usename = current_user) AS of_role,
           count(*) FILTER (WHERE datname = current_database()) AS of_database
    FROM pg_stat_activity
    -- The type is hidden from who may not see what other roles do, the rest is not.
    WHERE coalesce(backend_type, 'client backend') = 'client backend'
      AND datname IS NOT NULL AND usename IS NOT NULL
) AS backend
