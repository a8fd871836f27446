-- Mirrors events from now on that are inserted.
-- Locks the table against writers, and waits for those there are.
-- Index: none, the table is only named.
CREATE TRIGGER game_event_mirror_insert
AFTER INSERT ON game_event
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION game_event_mirror()
