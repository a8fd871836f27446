-- The session that a token names, and where that token stands in it: 'valid', 'retired',
-- 'displaced', or NULL when the session never had it.
-- Hashes are compared under a nonce, so that the time taken tells nothing about them.
-- Locks nothing.
-- Index: game_session_pkey.
SELECT s.id, s.game_id, s.user_id, s.generation, s.last_acknowledged,
       s.created_at, s.heartbeat_at, s.expires_at,
       coalesce(s.closed, CASE WHEN s.expires_at > now() THEN 'live' ELSE 'expired' END),
       CASE
           WHEN sha256(s.token_hash || %(nonce)s::bytea) = %(blinded)s::bytea
             OR sha256(s.previous_token_hash || %(nonce)s::bytea) = %(blinded)s::bytea
           THEN 'valid'
           WHEN EXISTS (SELECT FROM unnest(s.retired_token_hashes) AS retired (hash)
                        WHERE sha256(retired.hash || %(nonce)s::bytea) = %(blinded)s::bytea)
           THEN 'retired'
           WHEN EXISTS (SELECT FROM unnest(s.displaced_token_hashes) AS displaced (hash)
                        WHERE sha256(displaced.hash || %(nonce)s::bytea) = %(blinded)s::bytea)
           THEN 'displaced'
       END
FROM game_session AS s
WHERE s.game_id = %(game_id)s AND s.id = %(id)s
