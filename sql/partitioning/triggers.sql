-- How many of the triggers of the mirror a table has, in working order.
-- Locks nothing.
SELECT count(*) FROM pg_trigger
WHERE tgrelid = to_regclass(%(name)s) AND tgname = ANY (%(triggers)s)
  AND tgenabled IN ('O', 'A')
