-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS game_session_user;
