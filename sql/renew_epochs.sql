-- Gives every game a new epoch. The operator's step after the database was put back to an older
-- state in a way that it cannot notice itself, such as a snapshot of its disk.
-- Locks the one row of lineage.
-- Index: lineage_pkey.
UPDATE lineage SET id = gen_random_uuid() WHERE only_row
RETURNING id
