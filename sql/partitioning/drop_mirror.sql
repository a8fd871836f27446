-- Ends the mirror: the function, and with it the triggers that call it.
-- Locks the whole table of events.
DROP FUNCTION IF EXISTS game_event_mirror() CASCADE
