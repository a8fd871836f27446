-- Mirrors events from now on that are deleted.
-- Locks the table against writers, and waits for those there are.
-- Index: none, the table is only named.
CREATE TRIGGER game_event_mirror_delete
AFTER DELETE ON game_event
REFERENCING OLD TABLE AS removed
FOR EACH STATEMENT EXECUTE FUNCTION game_event_mirror()
