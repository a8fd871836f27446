-- Gives every game a new epoch if this is not the database that the present ones were drawn in:
-- a dump restored elsewhere, a copy, or another timeline (a restore to a point in time, or a
-- failover, unless that is known to lose nothing).
-- Runs once on each new connection. Locks the one row of lineage, only if it changes it.
-- Index: lineage_pkey.
UPDATE lineage
SET id = gen_random_uuid(),
    system_identifier = here.system_identifier,
    database = here.database,
    timeline = here.timeline
FROM (
    SELECT control.system_identifier, db.oid AS database,
           substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS timeline
    FROM pg_control_system() AS control, pg_database AS db
    WHERE db.datname = current_database()
) AS here
WHERE only_row
  AND ((lineage.system_identifier, lineage.database)
           IS DISTINCT FROM (here.system_identifier, here.database)
       OR lineage.timeline <> here.timeline AND NOT %(lossless_failover)s)
RETURNING id
