-- name: insert_message
INSERT INTO messages (seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key, headers, expires_at,
  max_retries, dedupe)
VALUES (:seq, :lane, :id, :body, :content_type, :sent_at, :ready_at, :first_ready_at, :priority, :key, :headers, :expires_at,
  :max_retries, :dedupe);

-- name: insert_ready
INSERT INTO ready (lane, shelf, priority, ready_at, seq, claims, releases, crashes)
VALUES (:lane, :shelf, :priority, :ready_at, :seq, :claims, :releases, :crashes);

-- name: find_dedupe
-- Live while its message is in the lane and not final, or until its window ends.
SELECT d.id FROM dedupe d
WHERE d.lane = :lane AND d.key = :key
  AND (d.until > :now OR EXISTS (SELECT 1 FROM messages m WHERE m.seq = d.seq AND m.id = d.id AND m.lane = d.lane));

-- name: put_dedupe
INSERT OR REPLACE INTO dedupe (lane, key, seq, id, until) VALUES (:lane, :key, :seq, :id, :until);

-- name: add_level
UPDATE queues SET levels = levels | :bit WHERE lane = :lane;
