-- depends: 0003_registry_payload_dictionary

-- What the last append of each client committed and answered, noted in the append's own
-- transaction: so it can be asked for when the connection broke before the answer came, and
-- refused for ever if it was not done. A receipt is one client's, used by one statement at a time
-- and kept for the next: there are as many as statements ever run at once.
CREATE TABLE statement_receipt (
    id        uuid        PRIMARY KEY,
    -- Rises with each statement. One that finds its own number or a higher one does nothing.
    statement bigint      NOT NULL,
    -- The sequences that it gave out; NULL if it did nothing and never will.
    answer    bigint[],
    used_at   timestamptz NOT NULL DEFAULT now()
) WITH (
    -- Each append updates one row: room on the page keeps the update HOT.
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);
