-- The dictionaries of these numbers, as far as they are there.
-- Locks nothing.
-- Index: payload_dictionary_pkey.
SELECT id, content
FROM payload_dictionary
WHERE id = ANY (%(ids)s::smallint[])
