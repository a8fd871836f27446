-- depends: 0002_registry_upkeep_indexes

-- What small payloads have in common, learned from this installation's own. A row of game_event
-- whose codec is 2 or more is compressed by zstd, from 4 on with the dictionary of the number
-- codec / 2 - 1. So a dictionary is never changed and never deleted while there are rows.
CREATE TABLE payload_dictionary (
    id         smallint    PRIMARY KEY CHECK (id BETWEEN 1 AND 16382),
    created_at timestamptz NOT NULL DEFAULT now(),
    content    bytea       NOT NULL
);
