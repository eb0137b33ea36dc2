-- name: ack_leases
-- LEASED -> DONE, in one statement. The fence: another claim of the message has another owner or a higher `claims`.
-- `OFFSET 0` and the arrays keep every step a lookup by key, however many there are. Keys are read where they are gated.
WITH ended AS (
  DELETE FROM leased WHERE ctid = ANY (ARRAY(
    SELECT l.ctid FROM unnest(:seqs::bigint[], :claims::integer[]) AS a (seq, claims) CROSS JOIN LATERAL (
      SELECT ctid FROM leased WHERE owner = :owner AND seq = a.seq AND claims = a.claims OFFSET 0) l))
  RETURNING seq, lane, size
), gone AS (
  DELETE FROM messages WHERE seq = ANY (ARRAY(SELECT seq FROM ended)) RETURNING lane, seq, dedupe
), released AS (
  UPDATE dedupe d SET seq = 0 FROM gone g
  WHERE g.dedupe IS NOT NULL AND d.lane = g.lane AND d.key = g.dedupe AND d.seq = g.seq
)
SELECT e.seq, e.lane, e.size, CASE WHEN :gated::boolean THEN (SELECT m.key FROM messages m WHERE m.seq = e.seq) END,
  CASE WHEN :has_members::boolean
    THEN (SELECT m.id FROM messages m WHERE m.seq = e.seq AND position(:mark::bytea IN m.headers) > 0) END
FROM ended e;

-- name: release_leases
-- LEASED -> READY in the old place, in one statement, where no keys are gated. Who was a suspect stays one.
WITH ended AS (
  DELETE FROM leased WHERE ctid = ANY (ARRAY(
    SELECT l.ctid FROM unnest(:seqs::bigint[], :claims::integer[]) AS a (seq, claims) CROSS JOIN LATERAL (
      SELECT ctid FROM leased
      WHERE owner = :owner AND seq = a.seq AND claims = a.claims AND lane = ANY (:lanes::bigint[]) OFFSET 0) l))
  RETURNING seq, lane, claims, releases, crashes, suspect
)
INSERT INTO ready (lane, shelf, priority, ready_at, seq, claims, releases, crashes)
SELECT e.lane, CASE WHEN e.suspect OR :are_suspects::boolean THEN 1 ELSE 0 END, m.priority, m.ready_at, e.seq,
  e.claims, e.releases + 1, e.crashes
FROM ended e CROSS JOIN LATERAL (SELECT priority, ready_at FROM messages WHERE seq = e.seq OFFSET 0) m
RETURNING lane, shelf, priority, ready_at, seq;

-- name: lanes_of_leases
SELECT DISTINCT lane FROM leased WHERE owner = :owner AND seq = ANY (:seqs::bigint[]) ORDER BY lane;

-- name: end_lease
-- The fence: another claim of the message has another owner or a higher `claims`.
DELETE FROM leased WHERE owner = :owner AND seq = :seq AND claims = :claims
RETURNING seq, lane, claims, releases, crashes, suspect, size;

-- name: delete_message
-- From here on its dedupe key, if it has one, lives by its window alone.
WITH gone AS (
  DELETE FROM messages WHERE seq = :seq RETURNING lane, seq, dedupe, id, headers
), released AS (
  UPDATE dedupe d SET seq = 0 FROM gone g
  WHERE g.dedupe IS NOT NULL AND d.lane = g.lane AND d.key = g.dedupe AND d.seq = g.seq
)
SELECT id, headers FROM gone;

-- name: read_place
SELECT lane, ready_at, priority, key, max_retries, octet_length(body), dedupe, coalesce(claims_before, 0)
FROM messages WHERE seq = :seq;

-- name: read_lanes
SELECT seq, lane FROM messages WHERE seq = ANY (:seqs::bigint[]);

-- name: write_ready_at
UPDATE messages SET ready_at = :ready_at WHERE seq = :seq;

-- name: find_ready
-- Locked: whoever finds it may take it out.
SELECT shelf, claims, releases FROM ready
WHERE lane = :lane AND shelf IN (0, 1, 2) AND priority = :priority AND ready_at = :ready_at AND seq = :seq FOR UPDATE;

-- name: find_lease
SELECT owner, claims, size FROM leased
WHERE owner = ANY (ARRAY(SELECT 0 UNION ALL SELECT owner FROM owners)) AND seq = :seq FOR UPDATE;

-- name: drop_lease
DELETE FROM leased WHERE owner = :owner AND seq = :seq;

-- name: extend_lease
UPDATE leased SET lease_until = least(:lease_until, lease_most) WHERE owner = 0 AND seq = :seq AND claims = :claims;

-- name: read_lane
SELECT lane, id FROM messages WHERE seq = :seq;
