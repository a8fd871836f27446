-- Gives out sequences of a game, for events that follow by COPY in the same transaction.
INSERT INTO game AS g (game_id, head, head_at)
VALUES (%(game_id)s, %(count)s, clock_timestamp())
ON CONFLICT (game_id) DO UPDATE SET head = g.head + excluded.head, head_at = clock_timestamp()
RETURNING head
