-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS game_event_id_age;
DROP INDEX CONCURRENTLY IF EXISTS game_session_expiry;
DROP INDEX CONCURRENTLY IF EXISTS game_session_heartbeat;
DROP INDEX CONCURRENTLY IF EXISTS game_oldest;
