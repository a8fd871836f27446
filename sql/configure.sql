-- Bounds every later statement, for the connection or (local) for the transaction only.
-- 'off' alone would break the promise that a recorded event survives a crash of the server.
-- Every query here is written for index scans and nested loops: statistics that are old, or a
-- plan made while the tables were small, must not talk the server out of them. No statement
-- runs long enough to be worth compiling, and to plan one anew for its parameters takes longer
-- than most of them run: above all where it deletes from many partitions.
-- The driver reads a time in UTC several times as fast as in any other zone; a caller's
-- connections keep theirs.
-- Locks nothing.
SELECT set_config('statement_timeout', %(statement_timeout)s, %(local)s),
       set_config('lock_timeout', %(lock_timeout)s, %(local)s),
       -- A client whose host is gone in the middle of a transaction must not hold a game for
       -- ever, and no timeout of a statement runs while the server waits for the rest of what it
       -- sends. Before version 17 there is only the network to notice.
       CASE WHEN current_setting('transaction_timeout', true) IS NOT NULL
            THEN set_config('transaction_timeout', %(transaction_timeout)s, %(local)s) END,
       set_config('tcp_keepalives_idle', %(keepalives_idle)s, %(local)s),
       set_config('tcp_keepalives_interval', '1', %(local)s),
       set_config('tcp_keepalives_count', '3', %(local)s),
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
       set_config('plan_cache_mode', 'force_generic_plan', %(local)s),
       set_config('jit', 'off', %(local)s)
