-- What an application's role may do, as the statements that allow it: read and write rows, recorded
-- events excepted, which it can only add and delete; the schema it cannot change. Whatever it had
-- been granted before stays.
-- Returns a row (statement) for each, of the first schema of the search_path.
-- Locks nothing.
-- Index: none, the tables are only named.
SELECT 'GRANT ' || rights || ' ON ' || kind
       || CASE WHEN kind <> 'SCHEMA ' THEN quote_ident(current_schema()) || '.' ELSE '' END || name
       || ' TO ' || quote_ident(%(role)s::text)
FROM (VALUES
    (1, 'USAGE', 'SCHEMA ', quote_ident(current_schema())),
    (2, 'SELECT, INSERT, UPDATE, DELETE', 'TABLE ', 'game'),
    (3, 'SELECT, INSERT, UPDATE, DELETE', 'TABLE ', 'game_session'),
    (4, 'SELECT, INSERT, DELETE', 'TABLE ', 'game_event'),
    -- Never updated, but the right is needed to lock a row.
    (5, 'SELECT, INSERT, UPDATE, DELETE', 'TABLE ', 'game_event_id'),
    (6, 'SELECT, INSERT', 'TABLE ', 'payload_dictionary'),
    (7, 'SELECT, INSERT, UPDATE, DELETE', 'TABLE ', 'statement_receipt'),
    (8, 'SELECT, UPDATE', 'TABLE ', 'lineage'),
    (9, 'SELECT', 'TABLE ', 'lineage_mark'),
    (10, 'EXECUTE', 'FUNCTION ', 'known_epoch(uuid, bytea)'),
    -- So that a schema that does not fit is noticed when a registry connects.
    (11, 'SELECT', 'TABLE ', '_yoyo_migration')
) AS granted (place, rights, kind, name)
ORDER BY place
