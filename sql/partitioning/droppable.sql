-- A row if the events are laid out by time, belong to this role, and are not being converted: what
-- is dropped then would stay in the copy.
-- Locks nothing.
-- Index: none, the table is only named.
SELECT FROM pg_class AS c JOIN pg_partitioned_table AS p ON p.partrelid = c.oid
WHERE c.oid = to_regclass('game_event') AND p.partstrat = 'r'
  AND pg_has_role(c.relowner, 'USAGE')
  AND to_regclass('game_event_conversion') IS NULL
