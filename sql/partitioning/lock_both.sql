-- Keeps out all that use the events, until the transaction ends, and waits for those there are.
-- Locks both tables whole.
-- Index: none, the tables are only named.
LOCK TABLE game_event, game_event_next IN ACCESS EXCLUSIVE MODE
