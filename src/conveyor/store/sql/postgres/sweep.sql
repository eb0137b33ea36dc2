-- name: expired_leases
SELECT seq, lane, claims, releases, crashes, suspect, size FROM leased
WHERE owner = 0 AND lease_until IS NOT NULL AND lease_until <= :now ORDER BY lease_until LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: aged_ready
SELECT seq, shelf, priority, ready_at, claims, releases, crashes FROM ready
WHERE lane = :lane AND shelf = :shelf AND priority = :priority AND ready_at < :before
ORDER BY ready_at, seq LIMIT :limit FOR UPDATE SKIP LOCKED;

-- name: head_of_level
SELECT ready_at FROM ready
WHERE lane = :lane AND shelf = :shelf AND priority = :priority AND ready_at <= :now
ORDER BY ready_at, seq LIMIT 1;

-- name: write_priority
UPDATE messages SET priority = :priority WHERE seq = :seq;

-- name: purged_lanes
SELECT lane FROM purged ORDER BY lane;

-- name: leave_purged
DELETE FROM ready WHERE ctid = ANY (ARRAY(SELECT ctid FROM ready WHERE lane = :lane LIMIT :limit)) RETURNING seq;

-- name: purged_leased
-- Rows, not keys: no index of `leased` begins with the lane, and none is wanted there for the sweep alone.
DELETE FROM leased WHERE ctid = ANY (ARRAY(SELECT ctid FROM leased WHERE lane = :lane LIMIT :limit)) RETURNING seq;

-- name: delete_messages
DELETE FROM messages WHERE seq = ANY (:seqs::bigint[])
RETURNING id, CASE WHEN position(:mark::bytea IN headers) > 0 THEN headers END;

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
WITH over AS MATERIALIZED (
  SELECT ctid AS place, until FROM dedupe WHERE seq = 0 AND until BETWEEN :since AND :now ORDER BY until LIMIT :limit
), gone AS (
  DELETE FROM dedupe WHERE ctid = ANY (ARRAY(SELECT place FROM over))
)
SELECT count(*), coalesce(max(until), 0) FROM over;

-- name: sweep_receipts
DELETE FROM receipts WHERE writer IN (SELECT writer FROM receipts WHERE committed_at <= :before LIMIT :limit);

-- name: sweep_kv
DELETE FROM kv WHERE (namespace, key) IN
  (SELECT namespace, key FROM kv WHERE expires_at IS NOT NULL AND expires_at <= :now ORDER BY expires_at LIMIT :limit);
