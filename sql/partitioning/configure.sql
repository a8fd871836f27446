-- For the session of a conversion: each statement sees what the one before it waited for, and goes
-- by the key, whatever the statistics of a new table say.
-- Locks nothing.
SELECT set_config('default_transaction_isolation', 'read committed', false),
       set_config('enable_seqscan', 'off', false),
       set_config('enable_bitmapscan', 'off', false),
       set_config('jit', 'off', false)
