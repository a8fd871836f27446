-- Deletes a game with all that belongs to it.
-- Returns one row (games deleted, 0 or 1), or no row when there was none.
-- Runs behind lock_game.sql in one transaction. Should that have locked a game which somebody
-- else ended, and this find the next one of the same id, then nothing is deleted of which the
-- snapshot may not show all: the caller tries again.
-- Notes in the receipt that it was done; fails if it was settled that it was not.
-- Locks the game's row, then its sessions' rows in the order of the players, then the receipt's.
-- Indexes: game_pkey, game_session_pkey or game_session_game_id_user_id_key,
-- game_event_pkey, game_event_id_pkey, statement_receipt_pkey.
WITH log AS MATERIALIZED (
    SELECT head, issued FROM game WHERE game_id = %(game_id)s
),
held AS MATERIALIZED (
    SELECT g.game_id
    FROM game AS g, log
    WHERE g.game_id = %(game_id)s AND g.head = log.head AND g.issued = log.issued
    FOR UPDATE OF g
),
locked AS MATERIALIZED (
    SELECT s.id
    FROM game_session AS s
    WHERE s.game_id = %(game_id)s AND EXISTS (SELECT FROM held)
    ORDER BY s.user_id
    FOR UPDATE
),
sessions AS (
    DELETE FROM game_session
    WHERE game_id = %(game_id)s AND (SELECT count(*) FROM locked) > 0
),
events AS (
    DELETE FROM game_event WHERE game_id = %(game_id)s AND EXISTS (SELECT FROM held)
),
event_ids AS (
    DELETE FROM game_event_id WHERE game_id = %(game_id)s AND EXISTS (SELECT FROM held)
),
ended AS (
    DELETE FROM game WHERE game_id = %(game_id)s AND EXISTS (SELECT FROM held)
    RETURNING 1
),
noted AS (
    INSERT INTO statement_receipt AS r (id, statement, answer)
    SELECT %(receipt)s::uuid, %(statement)s::bigint, ARRAY[1]
    FROM ended
    ON CONFLICT (id) DO UPDATE
        SET statement = CASE WHEN r.statement < excluded.statement THEN excluded.statement END,
            answer = excluded.answer, used_at = excluded.used_at
)
SELECT (SELECT count(*) FROM ended)
FROM log
