-- name: add_keyed
INSERT INTO keyed (lane, key, seq, place, priority, ready_at) VALUES (:lane, :key, :seq, :place, :priority, :ready_at);

-- name: drop_keyed
DELETE FROM keyed WHERE lane = :lane AND key = :key AND seq = :seq RETURNING key, place;

-- name: place_keyed
UPDATE keyed SET place = :place WHERE lane = :lane AND key = :key AND seq = :seq;

-- name: put_keyed
UPDATE keyed SET place = :place, priority = :priority, ready_at = :ready_at
WHERE lane = :lane AND key = :key AND seq = :seq;

-- name: first_of_key
SELECT seq, place FROM keyed WHERE lane = :lane AND key = :key ORDER BY seq LIMIT 1;

-- name: has_blocked
SELECT 1 FROM keyed WHERE lane = :lane AND place = 2 LIMIT 1;

-- name: blocked_of_key
-- In the order of claims.
SELECT k.seq, k.priority, k.ready_at, m.cost FROM keyed k CROSS JOIN messages m ON m.seq = k.seq
WHERE k.lane = :lane AND k.key = :key AND k.place = 2
ORDER BY k.priority DESC, k.ready_at, k.seq LIMIT :limit;

-- name: count_leased_of_key
SELECT :key, count(*) FROM keyed WHERE lane = :lane AND key = :key AND place = 1;

-- name: head_of_key
-- Its first message that is not final.
SELECT key, seq FROM keyed WHERE lane = :lane AND key = :key ORDER BY seq LIMIT 1;

-- name: keys_of
SELECT seq, key FROM messages WHERE seq IN carray(:seqs);

-- name: move_shelf
UPDATE ready SET shelf = :shelf
WHERE lane = :lane AND shelf = :from_shelf AND priority = :priority AND ready_at = :ready_at AND seq = :seq;

-- name: gate_ready_keys
INSERT OR IGNORE INTO keyed (lane, key, seq, place, priority, ready_at)
SELECT r.lane, coalesce(m.key, ''), r.seq, :place, m.priority, m.ready_at FROM ready r CROSS JOIN messages m ON m.seq = r.seq
WHERE r.lane = :lane AND (m.key IS NOT NULL OR :fair);

-- name: gate_leased_keys
INSERT OR IGNORE INTO keyed (lane, key, seq, place, priority, ready_at)
SELECT l.lane, coalesce(m.key, ''), l.seq, 1, m.priority, m.ready_at FROM leased l CROSS JOIN messages m ON m.seq = l.seq
WHERE l.lane = :lane AND (m.key IS NOT NULL OR :fair);

-- name: unblock_lane
UPDATE ready SET shelf = 0 WHERE lane = :lane AND shelf = 2;

-- name: drop_keyed_lane
DELETE FROM keyed WHERE lane = :lane;
