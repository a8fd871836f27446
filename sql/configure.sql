-- Bounds every later statement, for the connection or (local) for the transaction only.
-- 'off' alone would break the promise that a recorded event survives a crash of the server.
-- Locks nothing.
SELECT set_config('statement_timeout', %(statement_timeout)s, %(local)s),
       set_config('lock_timeout', %(lock_timeout)s, %(local)s),
       -- Anything stricter would make of each lost race an error.
       set_config('default_transaction_isolation', 'read committed', %(local)s),
       set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                       ELSE current_setting('synchronous_commit') END, %(local)s)
