-- Drops the table that says how far a conversion is, when it is done or given up.
-- Locks nothing that anybody uses.
DROP TABLE IF EXISTS game_event_conversion
