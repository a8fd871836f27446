-- Notes where to a conversion goes, that begins: so many partitions, or one for so much time, or
-- neither.
-- Locks nothing that anybody uses.
INSERT INTO game_event_conversion (partitions, every) VALUES (%(partitions)s, %(every)s)
