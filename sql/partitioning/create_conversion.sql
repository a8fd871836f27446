-- Makes the table that says where to a conversion goes, and how far it is: the last game it copied
-- from, through which sequence, and how many events in all.
-- Locks nothing that anybody uses.
CREATE TABLE game_event_conversion (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions integer,
    every interval,
    game_id text COLLATE "C" NOT NULL DEFAULT '',
    sequence bigint NOT NULL DEFAULT 0,
    copied bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
