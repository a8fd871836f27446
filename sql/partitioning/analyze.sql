-- Gathers the statistics of the next table: partitioned ones are not analyzed by themselves.
-- Locks nothing that anybody uses.
-- Index: none, it takes a sample.
ANALYZE game_event_next
