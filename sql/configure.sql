-- Bounds every later statement, for the connection or (local) for the transaction only.
-- 'off' alone would break the promise that a recorded event survives a crash of the server.
-- Every query here is written for index scans and nested loops: statistics that are old, or a
-- plan made while the tables were small, must not talk the server out of them. No statement
-- runs long enough to be worth compiling.
-- The driver reads a time in UTC several times as fast as in any other zone; a caller's
-- connections keep theirs.
-- Locks nothing.
SELECT set_config('statement_timeout', %(statement_timeout)s, %(local)s),
       set_config('lock_timeout', %(lock_timeout)s, %(local)s),
       -- Anything stricter would make of each lost race an error.
       set_config('default_transaction_isolation', 'read committed', %(local)s),
       set_config('synchronous_commit',
                  CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
                       ELSE current_setting('synchronous_commit') END, %(local)s),
       set_config('TimeZone',
                  CASE WHEN %(local)s THEN current_setting('TimeZone') ELSE 'UTC' END, %(local)s),
       set_config('enable_seqscan', 'off', %(local)s),
       set_config('enable_bitmapscan', 'off', %(local)s),
       set_config('enable_hashjoin', 'off', %(local)s),
       set_config('enable_mergejoin', 'off', %(local)s),
       set_config('jit', 'off', %(local)s)
