-- Takes rows whose sequences were given out before.
COPY game_event (game_id, sequence, recorded_at, codec, payload) FROM STDIN (FORMAT binary)
