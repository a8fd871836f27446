-- How far replication is behind: of each standby, or other reader of the log, that streams from this
-- server; and of this server itself if it is a standby. Of the former only what this role may see.
-- Returns rows (name or NULL for this server itself, bytes of the log that it has not replayed,
-- seconds that its replay was behind at its last word or NULL, state of the stream: of this server
-- itself 'paused', 'streaming' or 'none').
-- Locks nothing.
SELECT coalesce(nullif(application_name, ''), pid::text),
       pg_wal_lsn_diff(here.reached, replay_lsn)::bigint,
       extract(epoch FROM replay_lag)::float8, state
FROM pg_stat_replication
CROSS JOIN (
    SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                ELSE pg_current_wal_lsn() END AS reached
) AS here
WHERE replay_lsn IS NOT NULL
UNION ALL
SELECT NULL,
       coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0)::bigint,
       NULL,
       CASE WHEN pg_get_wal_replay_pause_state() <> 'not paused' THEN 'paused'
            WHEN EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 'streaming'
            ELSE 'none' END
WHERE pg_is_in_recovery()
ORDER BY 2 DESC
LIMIT 100
