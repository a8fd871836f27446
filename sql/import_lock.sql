-- Whether this connection may import: only one at a time does, until it closes.
-- Locks nothing but the import (an advisory lock of the connection), without waiting.
SELECT pg_try_advisory_lock(%(import)s)
