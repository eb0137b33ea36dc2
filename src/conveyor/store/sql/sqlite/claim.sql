-- name: select_ready
-- The head of one priority level: a contiguous range of the primary key of `ready`.
SELECT r.seq, r.ready_at, r.claims, r.releases, r.crashes,
       m.id, m.body, m.content_type, m.sent_at, m.key, m.headers, m.expires_at, m.first_ready_at
FROM ready r CROSS JOIN messages m ON m.seq = r.seq
WHERE r.lane = :lane AND r.shelf = :shelf AND r.priority = :priority AND r.ready_at <= :now
ORDER BY r.ready_at, r.seq LIMIT :limit;

-- name: lease_range
-- All that `select_ready` saw, in one statement. The bodies are not touched.
INSERT INTO leased (owner, seq, lane, claims, releases, crashes, suspect, size, lease_until, lease_most)
SELECT :owner, r.seq, r.lane, r.claims + 1, r.releases, r.crashes, r.shelf = 1, length(m.body), :lease_until, :lease_most
FROM ready r CROSS JOIN messages m ON m.seq = r.seq
WHERE r.lane = :lane AND r.shelf = :shelf AND r.priority = :priority AND (r.ready_at, r.seq) <= (:ready_at, :seq);

-- name: leave_range
DELETE FROM ready
WHERE lane = :lane AND shelf = :shelf AND priority = :priority AND (ready_at, seq) <= (:ready_at, :seq);

-- name: insert_lease
INSERT INTO leased (owner, seq, lane, claims, releases, crashes, suspect, size, lease_until, lease_most)
VALUES (:owner, :seq, :lane, :claims, :releases, :crashes, :suspect, :size, :lease_until,
  :lease_most);

-- name: leave_ready
DELETE FROM ready
WHERE lane = :lane AND shelf = :shelf AND priority = :priority AND ready_at = :ready_at AND seq = :seq;

-- name: next_ready_at
SELECT min(ready_at) FROM ready WHERE lane = :lane AND shelf = :shelf AND priority = :priority AND ready_at > :now;

-- name: has_suspects
SELECT 1 FROM ready WHERE lane = :lane AND shelf = 1 AND ready_at <= :now LIMIT 1;

-- name: sum_slots
SELECT coalesce(sum(held), 0) FROM slots WHERE lane = :lane;

-- name: take_slots
INSERT INTO slots (lane, owner, held) VALUES (:lane, :owner, :held)
ON CONFLICT (lane, owner) DO UPDATE SET held = held + excluded.held;

-- name: read_slots
SELECT held FROM slots WHERE lane = :lane AND owner = :owner;

-- name: write_slots
UPDATE slots SET held = :held WHERE lane = :lane AND owner = :owner;

-- name: free_slots
DELETE FROM slots WHERE lane = :lane AND owner = :owner;

-- name: has_leased
-- Only where messages go one at a time: whether one is out.
SELECT EXISTS (SELECT 1 FROM leased WHERE lane = :lane);

-- name: read_tick
SELECT tick, messages FROM ticks WHERE queue = :queue;

-- name: write_tick
INSERT INTO ticks (queue, tick, messages) VALUES (:queue, :tick, :messages)
ON CONFLICT (queue) DO UPDATE SET tick = excluded.tick, messages = excluded.messages;

-- name: drop_tick
DELETE FROM ticks WHERE queue = :queue;
