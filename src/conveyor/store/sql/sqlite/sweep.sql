-- name: expired_leases
SELECT seq, lane, claims, releases, crashes, suspect, size FROM leased
WHERE owner = 0 AND lease_until IS NOT NULL AND lease_until <= :now ORDER BY lease_until LIMIT :limit;

-- name: aged_ready
SELECT seq, shelf, priority, ready_at, claims, releases, crashes FROM ready
WHERE lane = :lane AND shelf = :shelf AND priority = :priority AND ready_at < :before
ORDER BY ready_at, seq LIMIT :limit;

-- name: head_of_level
SELECT ready_at FROM ready
WHERE lane = :lane AND shelf = :shelf AND priority = :priority AND ready_at <= :now
ORDER BY ready_at, seq LIMIT 1;

-- name: write_priority
UPDATE messages SET priority = :priority WHERE seq = :seq;

-- name: purged_lanes
SELECT lane FROM purged ORDER BY lane;

-- name: purged_ready
SELECT seq FROM ready WHERE lane = :lane LIMIT :limit;

-- name: leave_purged
DELETE FROM ready WHERE (lane, shelf, priority, ready_at, seq) IN
  (SELECT lane, shelf, priority, ready_at, seq FROM ready WHERE lane = :lane LIMIT :limit);

-- name: purged_leased
SELECT owner, seq FROM leased WHERE lane = :lane LIMIT :limit;

-- name: drop_purged_keyed
DELETE FROM keyed WHERE lane = :lane;

-- name: drop_purged_dedupe
DELETE FROM dedupe WHERE lane = :lane;

-- name: drop_purged_dead
DELETE FROM dead_letters WHERE lane = :lane;

-- name: drop_purged
DELETE FROM purged WHERE lane = :lane;

-- name: sweep_dedupe
-- Walks dedupe_ended: keys of messages that are still here are not in it.
DELETE FROM dedupe WHERE (lane, key) IN
  (SELECT lane, key FROM dedupe WHERE seq = 0 AND until <= :now ORDER BY until LIMIT :limit);

-- name: sweep_receipts
DELETE FROM receipts WHERE writer IN (SELECT writer FROM receipts WHERE committed_at <= :before LIMIT :limit);

-- name: sweep_kv
DELETE FROM kv WHERE (namespace, key) IN
  (SELECT namespace, key FROM kv WHERE expires_at IS NOT NULL AND expires_at <= :now ORDER BY expires_at LIMIT :limit);
