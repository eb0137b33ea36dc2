-- name: insert_messages
-- A whole commit group. Sequence numbers are drawn in the order of the arrays.
WITH draft AS MATERIALIZED (
  SELECT nextval('message_seq') AS seq, d.* FROM (
    SELECT * FROM unnest(:lane::bigint[], :id::bytea[], :body::bytea[], :content_type::smallint[], :sent_at::bigint[],
      :ready_at::bigint[], :priority::smallint[], :key::text[], :headers::bytea[], :expires_at::bigint[],
      :max_retries::integer[], :dedupe::text[])
      WITH ORDINALITY
      AS u (lane, id, body, content_type, sent_at, ready_at, priority, key, headers, expires_at, max_retries, dedupe, place)
    ORDER BY place
  ) d
), message AS (
  INSERT INTO messages (seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key, headers,
    expires_at, max_retries, dedupe)
  SELECT seq, lane, id, body, content_type, sent_at, ready_at, ready_at, priority, key, headers,
    expires_at, max_retries, dedupe FROM draft
), put AS (
  INSERT INTO ready (lane, shelf, priority, ready_at, seq, claims, releases, crashes)
  SELECT lane, 0, priority, ready_at, seq, 0, 0, 0 FROM draft
)
SELECT seq FROM draft ORDER BY place;

-- name: insert_ready
INSERT INTO ready (lane, shelf, priority, ready_at, seq, claims, releases, crashes)
VALUES (:lane, :shelf, :priority, :ready_at, :seq, :claims, :releases, :crashes);

-- name: lock_dedupe
-- Two sends with one key must see each other.
SELECT pg_advisory_xact_lock(hashtextextended(key, lane))
FROM (SELECT * FROM unnest(:lanes::bigint[], :keys::text[]) AS k (lane, key) ORDER BY lane, key) each;

-- name: find_dedupe
-- Live while its message is in the lane and not final, or until its window ends.
SELECT d.id FROM dedupe d
WHERE d.lane = :lane AND d.key = :key
  AND (d.until > :now OR EXISTS (SELECT 1 FROM messages m WHERE m.seq = d.seq AND m.id = d.id AND m.lane = d.lane));

-- name: put_dedupe
INSERT INTO dedupe (lane, key, seq, id, until) VALUES (:lane, :key, :seq, :id, :until)
ON CONFLICT (lane, key) DO UPDATE SET seq = excluded.seq, id = excluded.id, until = excluded.until;

-- name: add_level
UPDATE queues SET levels = levels | :bit WHERE lane = :lane;
