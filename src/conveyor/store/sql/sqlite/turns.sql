-- name: call_key
INSERT OR IGNORE INTO called (lane, due_at, key) VALUES (:lane, :due_at, :key);

-- name: call_lane
-- Every key that has a message there.
INSERT OR IGNORE INTO called (lane, due_at, key) SELECT DISTINCT lane, :now, key FROM keyed WHERE lane = :lane;

-- name: hear_called
DELETE FROM called WHERE (lane, due_at, key) IN
  (SELECT lane, due_at, key FROM called WHERE lane = :lane AND due_at <= :now ORDER BY due_at LIMIT :limit)
RETURNING key;

-- name: offer_of_key
-- What a key has to give at a level of priority, in the order of claims. Suspects lie on another shelf.
SELECT k.key, r.seq, r.priority, r.ready_at, r.claims, r.releases, r.crashes, m.key, m.expires_at, m.first_ready_at, m.cost
FROM keyed k
CROSS JOIN ready r ON r.lane = k.lane AND r.shelf = 0 AND r.priority = k.priority AND r.ready_at = k.ready_at AND r.seq = k.seq
CROSS JOIN messages m ON m.seq = k.seq
WHERE k.lane = :lane AND k.key = :key AND k.place = 2 AND k.priority = :priority AND k.ready_at <= :now
ORDER BY k.ready_at, k.seq LIMIT :limit;

-- name: offered_head
-- The same for an ordered key: its first message, if it may go.
SELECT k.key, r.seq, r.priority, r.ready_at, r.claims, r.releases, r.crashes, m.key, m.expires_at, m.first_ready_at, m.cost
FROM (SELECT * FROM keyed WHERE lane = :lane AND key = :key ORDER BY seq LIMIT 1) k
CROSS JOIN ready r ON r.lane = k.lane AND r.shelf = 0 AND r.priority = k.priority AND r.ready_at = k.ready_at AND r.seq = k.seq
CROSS JOIN messages m ON m.seq = k.seq
WHERE k.place = 2 AND k.priority = :priority AND k.ready_at <= :now;

-- name: next_of_key
-- When something of it is ready that is not yet.
SELECT key, min(ready_at) FROM keyed
WHERE lane = :lane AND key = :key AND place = 2 AND priority = :priority AND ready_at > :now
GROUP BY key;

-- name: read_line
SELECT turn, key, remains FROM turns WHERE lane = :lane AND priority = :priority ORDER BY turn LIMIT :limit;

-- name: is_in_line
SELECT key FROM turns WHERE lane = :lane AND priority = :priority AND key = :key;

-- name: end_of_line
SELECT coalesce(max(turn), 0) FROM turns WHERE lane = :lane AND priority = :priority;

-- name: join_line
INSERT INTO turns (lane, priority, turn, key, remains) VALUES (:lane, :priority, :turn, :key, :remains);

-- name: move_in_line
UPDATE turns SET turn = :turn, remains = :remains WHERE lane = :lane AND priority = :priority AND turn = :from_turn;

-- name: leave_line
DELETE FROM turns WHERE lane = :lane AND priority = :priority AND turn = :turn;

-- name: drop_line
DELETE FROM turns WHERE lane = :lane;

-- name: drop_called
DELETE FROM called WHERE lane = :lane;
