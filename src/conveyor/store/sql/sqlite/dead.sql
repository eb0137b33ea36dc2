-- name: release_dedupe
-- The message has left its queue: from here on the key lives by its window alone.
UPDATE dedupe SET seq = 0 WHERE lane = :lane AND key = :key AND seq = :seq;

-- name: drop_dedupe
DELETE FROM dedupe WHERE lane = :lane AND key = :key;

-- name: move_to_lane
-- Its claims so far are no lease's any more.
UPDATE messages SET lane = :lane, ready_at = :now, first_ready_at = :now, expires_at = NULL, max_retries = :max_retries,
  claims_before = :claims_before, dedupe = NULL
WHERE seq = :seq
RETURNING id, priority, key, headers, length(body);

-- name: put_dead_letter
INSERT OR REPLACE INTO dead_letters (lane, seq, origin_queue, reason, last_error, dead_at, max_retries)
VALUES (:lane, :seq, :origin_queue, :reason, :last_error, :dead_at, :max_retries);

-- name: drop_dead_letter
DELETE FROM dead_letters WHERE lane = :lane AND seq = :seq;

-- name: drop_dead_letters
DELETE FROM dead_letters WHERE lane = :lane AND seq IN carray(:seqs);

-- name: mark_holds_dead
UPDATE queues SET holds_dead = 1 WHERE lane = :lane;

-- name: list_dead_letters
-- Those that can go back: ready, and their queue of origin is still there.
SELECT d.seq, d.origin_queue, d.max_retries FROM dead_letters d CROSS JOIN messages m ON m.seq = d.seq CROSS JOIN queues q ON q.name = d.origin_queue
WHERE d.lane = :lane AND d.seq >= :first AND d.seq <= :last
  AND EXISTS (SELECT 1 FROM ready r WHERE r.lane = d.lane AND r.shelf IN (0, 1, 2) AND r.priority = m.priority
              AND r.ready_at = m.ready_at AND r.seq = d.seq)
ORDER BY d.seq LIMIT :limit;

-- name: drop_message
DELETE FROM messages WHERE seq = :seq RETURNING id, headers;

-- name: dedupe_keys_of
SELECT lane, dedupe, seq FROM messages WHERE seq IN carray(:seqs) AND dedupe IS NOT NULL;
