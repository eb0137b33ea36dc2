-- name: insert_message
INSERT INTO messages (seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key, headers, expires_at,
  max_retries, dedupe)
VALUES (:seq, :lane, :id, :body, :content_type, :sent_at, :ready_at, :first_ready_at, :priority, :key, :headers, :expires_at,
  :max_retries, :dedupe);

-- name: insert_ready
INSERT INTO ready (lane, shelf, priority, ready_at, seq, claims, releases, crashes)
VALUES (:lane, :shelf, :priority, :ready_at, :seq, :claims, :releases, :crashes);

-- name: find_dedupe
SELECT id FROM dedupe WHERE lane = :lane AND key = :key AND (seq <> 0 OR until > :now);

-- name: put_dedupe
INSERT OR REPLACE INTO dedupe (lane, key, seq, id, until) VALUES (:lane, :key, :seq, :id, :until);

-- name: add_level
UPDATE queues SET levels = levels | :bit WHERE lane = :lane;

-- name: mark_uses_dedupe
UPDATE queues SET uses_dedupe = 1 WHERE lane = :lane;
