DROP FUNCTION known_epoch;
DROP VIEW lineage_mark;
DROP TABLE lineage;
DROP TABLE game_event_id;
DROP TABLE game_event;
DROP TABLE game_session;
DROP TABLE game;
