DROP VIEW game_log;
DROP TABLE lineage;
DROP TABLE game_event_id;
DROP TABLE game_event;
DROP TABLE game_session;
DROP TABLE game;
