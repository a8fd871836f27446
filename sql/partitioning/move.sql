-- Notes how far the copy is: through which sequence of which game, and how many rows more.
-- Locks the conversion's one row.
UPDATE game_event_conversion
SET game_id = %(game_id)s, sequence = %(sequence)s, copied = copied + %(copied)s
