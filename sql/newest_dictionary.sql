-- The dictionary that was trained last, or no row when there is none.
-- Locks nothing.
-- Index: payload_dictionary_pkey.
SELECT id, content
FROM payload_dictionary
ORDER BY id DESC
LIMIT 1
