-- Notes on the old table what it is, so that it is known for one that may be dropped.
-- Locks the old table, which nobody uses any more.
COMMENT ON TABLE game_event_old IS %(comment)s
