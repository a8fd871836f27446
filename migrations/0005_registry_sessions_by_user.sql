-- transactional: false
-- depends: 0004_registry_statement_receipts

-- By it the live sessions of one player in all games are counted, for max_sessions_per_user, however
-- many that expired wait for the cleanup. Where the tables are sharded by game, it asks every shard.
-- Partial, so that no other query is planned by it. It changes when game_session_expiry does, once
-- a minute: the beats in between stay HOT.
-- CONCURRENTLY, and dropped first, as in 0002.

DROP INDEX CONCURRENTLY IF EXISTS game_session_user;
CREATE INDEX CONCURRENTLY game_session_user ON game_session (user_id, expires_minute)
WHERE closed IS NULL;
