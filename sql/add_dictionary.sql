-- Keeps a dictionary under the next number and returns that. Two at once: the second fails on the
-- key, and run again finds the number after.
-- Locks nothing.
-- Index: payload_dictionary_pkey.
INSERT INTO payload_dictionary (id, content)
SELECT coalesce(max(id), 0) + 1, %(content)s
FROM payload_dictionary
RETURNING id
