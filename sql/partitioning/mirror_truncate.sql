-- Mirrors events from now on that go with all others.
-- Locks the table against writers, and waits for those there are.
-- Index: none, the table is only named.
CREATE TRIGGER game_event_mirror_truncate
AFTER TRUNCATE ON game_event
FOR EACH STATEMENT EXECUTE FUNCTION game_event_mirror()
