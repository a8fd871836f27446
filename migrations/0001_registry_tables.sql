-- Games, sessions and events, the memory of event ids, and which database this is.
--
-- game_id leads every key, so that the tables can be partitioned or sharded by it together.
-- COLLATE "C": keys compare bytewise, the same everywhere, and an operating system's new
-- collation cannot corrupt an index.

CREATE TABLE game (
    game_id    text COLLATE "C" PRIMARY KEY CHECK (char_length(game_id) BETWEEN 1 AND 200),
    -- Sequences mean something within one epoch only: a log begun again gets another.
    epoch      uuid        NOT NULL DEFAULT gen_random_uuid(),
    -- The last sequence given out, and when.
    head       bigint      NOT NULL DEFAULT 0,
    head_at    timestamptz NOT NULL DEFAULT now(),
    -- Every event at or below it has been pruned.
    floor      bigint      NOT NULL DEFAULT 0,
    -- Tokens issued so far. A prune compares it to see whether its snapshot misses a session.
    issued     bigint      NOT NULL DEFAULT 0,
    -- No event left is older than this. Only the cleanup moves it, so that appends stay HOT
    -- although it is indexed.
    oldest_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (0 <= floor AND floor <= head)
) WITH (
    -- Each append updates this one small row: room on the page keeps the update HOT.
    fillfactor = 50,
    -- Hot rows die by the thousand between two visits of the default scale factor.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0
);

CREATE TABLE game_session (
    game_id              text COLLATE "C" NOT NULL REFERENCES game,
    id                   uuid        NOT NULL,
    user_id              text COLLATE "C" NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 200),
    -- SHA-256 of the newest token, and of the one before it while the newest is unused.
    token_hash           bytea       NOT NULL,
    previous_token_hash  bytea,
    -- With it the newest token follows from the previous one, so that a resume repeated
    -- because its reply was lost gets the same token again. NULL: the newest was issued.
    token_salt           bytea,
    -- The last few that retired because their successor was used: one of them coming back is a
    -- copy in use.
    retired_token_hashes bytea[]     NOT NULL DEFAULT '{}',
    -- The last few that an issue put out of force before their successor was used: perhaps all
    -- that an honest client has, its reply having been lost.
    displaced_token_hashes bytea[]   NOT NULL DEFAULT '{}',
    generation           bigint      NOT NULL DEFAULT 1,
    last_acknowledged    bigint      NOT NULL,
    ttl                  interval    NOT NULL,
    created_at           timestamptz NOT NULL DEFAULT now(),
    heartbeat_at         timestamptz NOT NULL DEFAULT now(),
    expires_at           timestamptz NOT NULL,
    -- Over for ever: by the host's revocation, or by the prune that stopped waiting
    -- for this session after its expiry, so that a late heartbeat cannot revive it.
    closed               text        CHECK (closed IN ('revoked', 'expired')),
    -- The indexed shadows of the two times above change once a minute, not once a beat: the
    -- beats in between stay HOT.
    heartbeat_minute     timestamptz NOT NULL GENERATED ALWAYS AS
        (date_bin('1 minute', heartbeat_at, '2000-01-01 00:00:00+00')) STORED,
    expires_minute       timestamptz NOT NULL GENERATED ALWAYS AS
        (date_bin('1 minute', expires_at, '2000-01-01 00:00:00+00')) STORED,
    PRIMARY KEY (game_id, id),
    UNIQUE (game_id, user_id)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

-- No foreign key to game: the append that inserts here has just locked the game's row, and a
-- check for each row would cost as much as the row.
CREATE TABLE game_event (
    game_id     text COLLATE "C" NOT NULL,
    sequence    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    -- How payload is encoded: 0 bytes as they are, 1 JSON in UTF-8.
    codec       smallint    NOT NULL,
    payload     bytea       NOT NULL,
    PRIMARY KEY (game_id, sequence)
) WITH (
    -- Rows come and go in order and are never updated: vacuum early, for the pruned prefix,
    -- and for inserts, so that replays can trust the visibility map.
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_vacuum_cost_delay = 0
);

-- Which event an id was given to. Apart from game_event, because a retry can come after its
-- event was acknowledged and pruned.
CREATE TABLE game_event_id (
    game_id     text COLLATE "C" NOT NULL,
    event_id    uuid        NOT NULL,
    sequence    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (game_id, event_id)
);

-- Which database this is. A copy of it, restored elsewhere or from a backup, is another one, and
-- no client may take its logs for those it knew: a new id here is a new epoch for every game.
CREATE TABLE lineage (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id                uuid    NOT NULL DEFAULT gen_random_uuid(),
    -- Where the id was drawn; unknown until the first connection.
    system_identifier bigint,
    database          oid,
    timeline          text
);
INSERT INTO lineage DEFAULT VALUES;

-- What tells this database's epochs from any other's. The row's xmin is part of it, because a dump
-- restored over its own database brings the row back as it was, but not that.
CREATE VIEW lineage_mark AS
SELECT uuid_send(id) || convert_to(xmin::text, 'UTF8') AS mark FROM lineage WHERE only_row;

-- The epoch of a log as clients know it: of this log, in this database.
CREATE FUNCTION known_epoch(epoch uuid, mark bytea) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT encode(substr(sha256(uuid_send(epoch) || mark), 1, 16), 'hex')::uuid $$;
