-- name: read_queue
SELECT name, lane, settings, consumer, declared, paused, throttled_until, levels, holds_dead,
  uses_dedupe, rests_keys, version, created_at, modified_at, first_name
FROM queues WHERE name = :name;

-- name: read_queue_of_lane
SELECT name FROM queues WHERE lane = :lane;

-- name: list_queues
SELECT name FROM queues ORDER BY name;

-- name: insert_queue
INSERT INTO queues (name, lane, settings, version, created_at, modified_at)
VALUES (:name, :lane, :settings, 1, :now, :now);

-- name: write_queue
UPDATE queues SET settings = :settings, consumer = :consumer, declared = :declared, paused = :paused,
  lane = :lane, holds_dead = :holds_dead, uses_dedupe = :uses_dedupe, version = version + 1, modified_at = :now
WHERE name = :name;

-- name: throttle_queue
UPDATE queues SET throttled_until = max(throttled_until, :until) WHERE lane = :lane;

-- name: end_throttle
UPDATE queues SET throttled_until = 0 WHERE lane = :lane;

-- name: delete_queue
DELETE FROM queues WHERE name = :name;

-- name: add_purged
INSERT INTO purged (lane) VALUES (:lane);

-- name: drop_counters
DELETE FROM counters WHERE lane = :lane;

-- name: drop_slots
DELETE FROM slots WHERE lane = :lane;

-- name: move_slots
UPDATE slots SET lane = :lane WHERE lane = :old_lane;

-- name: count_leased
SELECT count(*) FROM leased WHERE lane = :lane;

-- name: oldest_ready_at
SELECT min(ready_at) FROM ready WHERE lane = :lane AND shelf = 0 AND priority = :priority;

-- name: peek_messages
-- Walks the lane's narrow rows only; the bodies of the chosen few are read last.
SELECT m.seq, m.id, m.body, m.content_type, m.sent_at, m.ready_at, p.attempts, p.leased, m.priority, m.key, m.headers,
       d.origin_queue, d.reason, d.dead_at, d.last_error
FROM (
  SELECT seq, claims - releases AS attempts, 0 AS leased FROM ready WHERE lane = :lane AND seq > :after
  UNION ALL
  SELECT seq, claims - releases AS attempts, 1 AS leased FROM leased WHERE lane = :lane AND seq > :after
  ORDER BY seq LIMIT :limit
) p CROSS JOIN messages m ON m.seq = p.seq LEFT JOIN dead_letters d ON d.lane = m.lane AND d.seq = m.seq
ORDER BY m.seq;

-- name: find_message
SELECT seq FROM messages WHERE lane = :lane AND id = :id;

-- name: set_headers
UPDATE messages SET headers = :headers WHERE seq = :seq;

-- name: edit_message
UPDATE messages SET body = :body, content_type = :content_type, headers = :headers WHERE seq = :seq;
