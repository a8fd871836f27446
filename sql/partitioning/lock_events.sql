-- Keeps out all that use the events, until the transaction ends.
-- Locks the whole table.
-- Index: none, the table is only named.
LOCK TABLE game_event
