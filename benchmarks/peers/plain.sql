-- What a good engineer would make without this library: the same shape, hot rows kept HOT.
CREATE TABLE game (
    game_id text COLLATE "C" PRIMARY KEY,
    head    bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE event (
    game_id     text COLLATE "C" NOT NULL,
    sequence    bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    payload     jsonb NOT NULL,
    PRIMARY KEY (game_id, sequence)
);

-- For reading without decoding: the payload as the bytes it came as.
CREATE TABLE raw_event (
    game_id     text COLLATE "C" NOT NULL,
    sequence    bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    payload     bytea NOT NULL,
    PRIMARY KEY (game_id, sequence)
);

CREATE TABLE session (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    game_id      text COLLATE "C" NOT NULL,
    user_id      text COLLATE "C" NOT NULL,
    token_hash   bytea NOT NULL UNIQUE,
    acknowledged bigint NOT NULL DEFAULT 0,
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    UNIQUE (game_id, user_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
