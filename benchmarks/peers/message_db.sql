-- An equivalent of what message-db does, written for this comparison: messages in streams
-- named category-id, written through a function that takes a transaction's advisory lock on the
-- category, checks the expected version, and gives the next position in the stream and the next
-- position of all. With the same three indexes as it has.
CREATE TABLE messages (
    global_position bigserial PRIMARY KEY,
    position        bigint    NOT NULL,
    time            timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    stream_name     text      NOT NULL,
    type            text      NOT NULL,
    data            jsonb,
    metadata        jsonb,
    id              uuid      NOT NULL DEFAULT gen_random_uuid()
);

CREATE FUNCTION category(stream text) RETURNS text LANGUAGE sql IMMUTABLE AS
    $$ SELECT split_part(stream, '-', 1) $$;

CREATE UNIQUE INDEX ON messages (id);
CREATE UNIQUE INDEX ON messages (stream_name, position);
CREATE INDEX ON messages (
    category(stream_name), global_position, category(metadata ->> 'correlationStreamName')
);

CREATE FUNCTION write_message(
    message uuid, stream text, kind text, body jsonb,
    meta jsonb DEFAULT NULL, expected bigint DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    version bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(category(stream), 0));
    SELECT coalesce(max(m.position), -1) INTO version FROM messages AS m
    WHERE m.stream_name = stream;
    IF expected <> version THEN
        RAISE EXCEPTION 'expected version %, but % is at %', expected, stream, version;
    END IF;
    INSERT INTO messages (id, stream_name, position, type, data, metadata)
    VALUES (message, stream, version + 1, kind, body, meta);
    RETURN version + 1;
END
$$;
