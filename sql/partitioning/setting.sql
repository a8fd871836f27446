-- Sets something for the rest of the transaction.
-- Locks nothing.
SELECT set_config(%(setting)s, %(value)s, true)
