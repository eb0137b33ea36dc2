-- name: add_keyed
INSERT INTO keyed (lane, key, seq, place, priority, ready_at) VALUES (:lane, :key, :seq, 0, :priority, :ready_at);

-- name: drop_keyed
DELETE FROM keyed WHERE lane = :lane AND key = :key AND seq = :seq;

-- name: place_keyed
UPDATE keyed SET place = :place WHERE lane = :lane AND key = :key AND seq = :seq;

-- name: block_keyed
UPDATE keyed SET place = 2, priority = :priority, ready_at = :ready_at WHERE lane = :lane AND key = :key AND seq = :seq;

-- name: first_of_key
SELECT seq, place FROM keyed WHERE lane = :lane AND key = :key ORDER BY seq LIMIT 1;

-- name: first_blocked_of_key
-- In the order of claims.
SELECT seq FROM keyed WHERE lane = :lane AND key = :key AND place = 2
ORDER BY priority DESC, ready_at, seq LIMIT 1;

-- name: count_leased_of_key
SELECT count(*) FROM keyed WHERE lane = :lane AND key = :key AND place = 1;

-- name: move_shelf
UPDATE ready SET shelf = :shelf
WHERE lane = :lane AND shelf = :from_shelf AND priority = :priority AND ready_at = :ready_at AND seq = :seq;

-- name: gate_ready_keys
INSERT INTO keyed (lane, key, seq, place, priority, ready_at)
SELECT r.lane, m.key, r.seq, 0, m.priority, m.ready_at FROM ready r JOIN messages m ON m.seq = r.seq
WHERE r.lane = :lane AND m.key IS NOT NULL ON CONFLICT DO NOTHING;

-- name: gate_leased_keys
INSERT INTO keyed (lane, key, seq, place, priority, ready_at)
SELECT l.lane, m.key, l.seq, 1, m.priority, m.ready_at FROM leased l JOIN messages m ON m.seq = l.seq
WHERE l.lane = :lane AND m.key IS NOT NULL ON CONFLICT DO NOTHING;

-- name: unblock_lane
UPDATE ready SET shelf = 0 WHERE lane = :lane AND shelf = 2;

-- name: drop_keyed_lane
DELETE FROM keyed WHERE lane = :lane;
