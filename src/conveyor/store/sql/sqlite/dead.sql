-- name: release_dedupe
-- The message has left its queue: from here on the key lives by its window alone.
UPDATE dedupe SET seq = 0 WHERE lane = :lane AND key = :key AND seq = :seq;

-- name: move_to_lane
UPDATE messages SET lane = :lane, ready_at = :ready_at, expires_at = NULL, max_retries = NULL, dedupe = NULL
WHERE seq = :seq
RETURNING id, priority, key, headers, length(body);

-- name: put_dead_letter
INSERT OR REPLACE INTO dead_letters (lane, seq, origin_queue, reason, last_error, dead_at)
VALUES (:lane, :seq, :origin_queue, :reason, :last_error, :dead_at);

-- name: drop_dead_letter
DELETE FROM dead_letters WHERE lane = :lane AND seq = :seq;

-- name: drop_dead_letters
DELETE FROM dead_letters WHERE lane = :lane AND seq IN carray(:seqs);

-- name: mark_holds_dead
UPDATE queues SET holds_dead = 1 WHERE lane = :lane;

-- name: list_dead_letters
SELECT seq, origin_queue FROM dead_letters WHERE lane = :lane AND seq > :after ORDER BY seq LIMIT :limit;

-- name: read_dead_letter
SELECT seq, origin_queue FROM dead_letters WHERE lane = :lane AND seq = :seq;

-- name: drop_message
DELETE FROM messages WHERE seq = :seq RETURNING id, headers;
