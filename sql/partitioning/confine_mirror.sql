-- Nobody but the owner may use the mirror: on a table of his own he could forge events with it.
-- Locks nothing.
REVOKE ALL ON FUNCTION game_event_mirror() FROM PUBLIC
