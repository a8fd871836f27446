-- Mirrors events from now on that are changed.
-- Locks the table against writers, and waits for those there are.
-- Index: none, the table is only named.
CREATE TRIGGER game_event_mirror_update
AFTER UPDATE ON game_event
REFERENCING OLD TABLE AS removed NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION game_event_mirror()
