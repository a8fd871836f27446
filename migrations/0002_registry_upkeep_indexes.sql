-- transactional: false
-- depends: 0001_registry_tables

-- What the upkeep looks for by time. CONCURRENTLY, so that writers go on while a filled table
-- is indexed; each is dropped first, since one that was interrupted stays behind invalid.

DROP INDEX CONCURRENTLY IF EXISTS game_oldest;
CREATE INDEX CONCURRENTLY game_oldest ON game (oldest_at);

DROP INDEX CONCURRENTLY IF EXISTS game_session_heartbeat;
CREATE INDEX CONCURRENTLY game_session_heartbeat ON game_session (heartbeat_minute);

DROP INDEX CONCURRENTLY IF EXISTS game_session_expiry;
CREATE INDEX CONCURRENTLY game_session_expiry ON game_session (expires_minute);

DROP INDEX CONCURRENTLY IF EXISTS game_event_id_age;
CREATE INDEX CONCURRENTLY game_event_id_age ON game_event_id (recorded_at);
