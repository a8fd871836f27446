DROP FUNCTION known_epoch;
DROP VIEW lineage_mark;
DROP TABLE lineage;
DROP TABLE game_event_id;
-- With the events goes what a conversion of them has made: while it is under way, or since it is
-- over but for the old table. It is in their schema, and known for ours by a column or a comment.
DO $$
DECLARE
    home constant text := (
        SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'game_event'::regclass);
BEGIN
    DROP TABLE game_event; -- first, as all lock it first who write
    IF EXISTS (
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass(home || '.game_event_conversion') AND attname = 'only_row'
    ) THEN
        EXECUTE format('DROP FUNCTION IF EXISTS %s.game_event_mirror', home);
        EXECUTE format('DROP TABLE IF EXISTS %s.game_event_next', home);
        EXECUTE format('DROP TABLE %s.game_event_conversion', home);
    END IF;
    IF obj_description(to_regclass(home || '.game_event_old'), 'pg_class')
       = 'What game_event was before `python -m registry partition`, which drops it.' THEN
        EXECUTE format('DROP TABLE %s.game_event_old', home);
    END IF;
END
$$;
DROP TABLE game_session;
DROP TABLE game;
