-- Makes every change of the events to the next table too, in the same transaction: the function
-- that the triggers call. With the rights of the owner, since who plays has none there. Nothing but
-- what the server brings comes before the schema of the events ({schema}), and temporary tables
-- come last. What is there already was copied: the same.
-- Locks nothing.
-- Index: game_event_next_pkey, or that of a partition; by the time it is told in which to look.
CREATE FUNCTION game_event_mirror() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp
AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        TRUNCATE game_event_next;
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        DELETE FROM game_event_next AS e USING removed AS r
        WHERE e.game_id = r.game_id AND e.sequence = r.sequence AND e.recorded_at = r.recorded_at;
    END IF;
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        INSERT INTO game_event_next (game_id, sequence, recorded_at, codec, payload)
        SELECT game_id, sequence, recorded_at, codec, payload FROM added
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$
