-- Gathers the statistics of the next table: partitioned ones are not analyzed by themselves.
-- Locks nothing that anybody uses.
ANALYZE game_event_next
