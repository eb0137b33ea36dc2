-- name: select_judged
-- The head of one priority level, locked, without what only a handler needs: some of these are looked at and not taken.
SELECT r.seq, r.priority, r.ready_at, r.claims, r.releases, r.crashes, m.key, m.expires_at, m.first_ready_at, m.cost
FROM ready r CROSS JOIN LATERAL (SELECT key, expires_at, first_ready_at, cost FROM messages WHERE seq = r.seq OFFSET 0) m
WHERE r.lane = :lane AND r.shelf = :shelf AND r.priority = :priority AND r.ready_at <= :now
ORDER BY r.ready_at, r.seq LIMIT :limit FOR UPDATE OF r SKIP LOCKED;

-- name: lease_judged
-- Those that the gate lets through, and what their handlers need.
WITH fit AS MATERIALIZED (
  SELECT r.ctid AS place
  FROM unnest(:priorities::smallint[], :ready_ats::bigint[], :seqs::bigint[]) AS t (priority, ready_at, seq)
  CROSS JOIN LATERAL (SELECT ctid FROM ready WHERE lane = :lane AND shelf = :shelf AND priority = t.priority
    AND ready_at = t.ready_at AND seq = t.seq OFFSET 0) r
), taken AS (
  DELETE FROM ready WHERE ctid = ANY (ARRAY(SELECT place FROM fit))
  RETURNING seq, claims, releases, crashes
), found AS MATERIALIZED (
  SELECT t.seq, t.claims, t.releases, t.crashes, m.id, m.body, m.content_type, m.sent_at, m.headers
  FROM taken t CROSS JOIN LATERAL (SELECT * FROM messages WHERE seq = t.seq OFFSET 0) m
), put AS (
  INSERT INTO leased (owner, seq, lane, claims, releases, crashes, suspect, size, lease_until, lease_most)
  SELECT :owner, seq, :lane, claims + 1, releases, crashes, :shelf = 1, octet_length(body), :lease_until, :lease_most
  FROM found
), placed AS (
  UPDATE keyed SET place = 1 WHERE ctid = ANY (ARRAY(
    SELECT k.ctid FROM unnest(:keys::text[], :seqs::bigint[]) AS g (key, seq) CROSS JOIN LATERAL (
      SELECT ctid FROM keyed WHERE lane = :lane AND key = g.key AND seq = g.seq OFFSET 0) k))
)
SELECT seq, id, body, content_type, sent_at, headers FROM found;

-- name: write_costs
UPDATE messages SET cost = u.cost FROM unnest(:seqs::bigint[], :costs::integer[]) AS u (seq, cost)
WHERE messages.seq = u.seq;
