-- name: end_lease
-- The fence: another claim of the message has another owner or a higher `claims`.
DELETE FROM leased WHERE owner = :owner AND seq = :seq AND claims = :claims
RETURNING seq, lane, claims, releases, crashes, suspect, size;

-- name: delete_messages
DELETE FROM messages WHERE seq IN carray(:seqs);

-- name: drop_messages
-- As `delete_messages`, for those of which somebody has to be told.
DELETE FROM messages WHERE seq IN carray(:seqs) RETURNING seq, id, headers;

-- name: read_place
SELECT lane, ready_at, priority, key, max_retries, length(body), dedupe, coalesce(claims_before, 0)
FROM messages WHERE seq = :seq;

-- name: write_ready_at
UPDATE messages SET ready_at = :ready_at WHERE seq = :seq;

-- name: find_ready
SELECT shelf, claims, releases FROM ready
WHERE lane = :lane AND shelf IN (0, 1, 2) AND priority = :priority AND ready_at = :ready_at AND seq = :seq;

-- name: find_lease
SELECT owner, claims, size FROM leased WHERE owner IN (SELECT 0 UNION ALL SELECT owner FROM owners) AND seq = :seq;

-- name: drop_lease
DELETE FROM leased WHERE owner = :owner AND seq = :seq;

-- name: extend_lease
UPDATE leased SET lease_until = min(:lease_until, lease_most) WHERE owner = 0 AND seq = :seq AND claims = :claims;

-- name: read_lane
SELECT lane, id FROM messages WHERE seq = :seq;
