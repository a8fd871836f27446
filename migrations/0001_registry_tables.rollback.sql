-- A conversion that is under way, or over but for its old table, goes with the events. Tables of
-- the same names that are somebody else's stay.
DO $$
BEGIN
    IF to_regclass('game_event_conversion') IS NOT NULL THEN
        DROP TABLE IF EXISTS game_event_conversion, game_event_next;
    END IF;
    IF obj_description(to_regclass('game_event_old'), 'pg_class')
       = 'What game_event was before `python -m registry partition`, which drops it.' THEN
        DROP TABLE game_event_old;
    END IF;
END
$$;
DROP FUNCTION known_epoch;
DROP VIEW lineage_mark;
DROP TABLE lineage;
DROP TABLE game_event_id;
DROP TABLE game_event;
DROP FUNCTION IF EXISTS game_event_mirror;
DROP TABLE game_session;
DROP TABLE game;
