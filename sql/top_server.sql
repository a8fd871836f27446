-- What goes on in the database as a whole: its live sessions, counted up to a limit from those that
-- expire next on; its connections; and what the server's statistics, which lag a second behind,
-- say of the tables, with all their partitions.
-- Returns one row (time, live sessions, stale ones, whether there are more, connections of all
-- databases, the most there can be, those of this database that work, that idle in a transaction,
-- that wait for a lock, seconds that the longest has waited, seconds since the oldest transaction
-- began, whether other roles' connections can be seen, events recorded, events deleted, statements
-- that appended, games, bytes of the games, sessions and events).
-- Locks nothing.
-- Index: game_session_expiry; of the other tables only statistics and sizes are read.
WITH part AS MATERIALIZED (
    SELECT name, name::regclass AS relid
    FROM unnest('{game, game_session, game_event, statement_receipt}'::text[]) AS name
    UNION
    SELECT name, inhrelid
    FROM unnest('{game, game_session, game_event, statement_receipt}'::text[]) AS name
    JOIN pg_inherits ON inhparent = name::regclass
)
SELECT clock_timestamp(), session.*,
       activity.connections, current_setting('max_connections')::bigint,
       activity.active, activity.idle_in_transaction, activity.blocked,
       activity.blocked_for, activity.oldest,
       pg_has_role('pg_read_all_stats', 'USAGE'),
       stored.*
FROM (
    SELECT count(*) FILTER (WHERE live),
           count(*) FILTER (WHERE live AND silent),
           count(*) = %(most)s
    FROM (
        SELECT closed IS NULL AND expires_at > now() AS live,
               heartbeat_at < now() - make_interval(secs => %(stale)s) AS silent
        FROM game_session
        WHERE expires_minute > now() - interval '1 minute'
        ORDER BY expires_minute
        LIMIT %(most)s
    ) AS next
) AS session (live, stale, capped),
(
    SELECT count(*) AS connections,
           count(*) FILTER (WHERE here AND state = 'active') AS active,
           count(*) FILTER (WHERE here AND starts_with(state, 'idle in transaction'))
               AS idle_in_transaction,
           count(*) FILTER (WHERE here AND wait_event_type = 'Lock') AS blocked,
           extract(epoch FROM max(clock_timestamp() - query_start)
               FILTER (WHERE here AND wait_event_type = 'Lock'))::float8 AS blocked_for,
           extract(epoch FROM max(clock_timestamp() - xact_start) FILTER (WHERE here))::float8
               AS oldest
    FROM (
        SELECT *, datname = current_database() AND pid <> pg_backend_pid() AS here
        FROM pg_stat_activity
        -- The type is hidden from who may not see what other roles do, the rest is not.
        WHERE coalesce(backend_type, 'client backend') = 'client backend'
          AND datname IS NOT NULL AND usename IS NOT NULL
    ) AS backend
) AS activity,
(
    SELECT (sum(inserted) FILTER (WHERE name = 'game_event'))::bigint,
           (sum(deleted) FILTER (WHERE name = 'game_event'))::bigint,
           (sum(inserted + updated) FILTER (WHERE name = 'statement_receipt'))::bigint,
           (sum(live) FILTER (WHERE name = 'game'))::bigint,
           (sum(bytes) FILTER (WHERE name = 'game'))::bigint,
           (sum(bytes) FILTER (WHERE name = 'game_session'))::bigint,
           (sum(bytes) FILTER (WHERE name = 'game_event'))::bigint
    FROM (
        SELECT name, pg_stat_get_tuples_inserted(relid) AS inserted,
               pg_stat_get_tuples_updated(relid) AS updated,
               pg_stat_get_tuples_deleted(relid) AS deleted,
               pg_stat_get_live_tuples(relid) AS live,
               pg_total_relation_size(relid) AS bytes
        FROM part
    ) AS part
) AS stored
