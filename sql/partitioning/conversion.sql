-- Where to the conversion that is under way goes, and how far it is: its one row.
-- Locks nothing.
SELECT partitions, every, game_id, sequence, copied, started_at FROM game_event_conversion
