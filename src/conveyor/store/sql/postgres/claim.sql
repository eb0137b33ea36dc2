-- name: claim_ready
-- The head of one priority level becomes leases, in one statement. `OFFSET 0` keeps the bodies a lookup by seq each.
WITH head AS MATERIALIZED (
  SELECT ctid FROM ready
  WHERE lane = :lane AND shelf = :shelf AND priority = :priority AND ready_at <= :now
    AND (ready_at, seq) > (:after_at::bigint, :after_seq::bigint)
  ORDER BY ready_at, seq LIMIT :limit FOR UPDATE SKIP LOCKED
), taken AS (
  DELETE FROM ready WHERE ctid = ANY (ARRAY(SELECT ctid FROM head))
  RETURNING seq, ready_at, claims, releases, crashes
), found AS MATERIALIZED (
  SELECT t.seq, t.ready_at, t.claims, t.releases, t.crashes, m.id, m.body, m.content_type, m.sent_at, m.key, m.headers,
    m.expires_at, m.first_ready_at
  FROM taken t CROSS JOIN LATERAL (SELECT * FROM messages WHERE seq = t.seq OFFSET 0) m
), put AS (
  INSERT INTO leased (owner, seq, lane, claims, releases, crashes, suspect, size, lease_until, lease_most)
  SELECT :owner, seq, :lane, claims + 1, releases, crashes, :shelf = 1, octet_length(body), :lease_until, :lease_most
  FROM found
)
SELECT * FROM found ORDER BY ready_at, seq;

-- name: select_ready
-- The head of one priority level, locked, to be judged one by one.
SELECT r.seq, r.ready_at, r.claims, r.releases, r.crashes,
       m.id, m.body, m.content_type, m.sent_at, m.key, m.headers, m.expires_at, m.first_ready_at
FROM ready r CROSS JOIN LATERAL (SELECT * FROM messages WHERE seq = r.seq OFFSET 0) m
WHERE r.lane = :lane AND r.shelf = :shelf AND r.priority = :priority AND r.ready_at <= :now
ORDER BY r.ready_at, r.seq LIMIT :limit FOR UPDATE OF r SKIP LOCKED;

-- name: lease_taken
-- Those of `select_ready` that were found fit.
WITH fit AS MATERIALIZED (
  SELECT r.ctid AS place
  FROM unnest(:priorities::smallint[], :ready_ats::bigint[], :seqs::bigint[]) AS t (priority, ready_at, seq)
  CROSS JOIN LATERAL (SELECT ctid FROM ready WHERE lane = :lane AND shelf = :shelf AND priority = t.priority
    AND ready_at = t.ready_at AND seq = t.seq OFFSET 0) r
), taken AS (
  DELETE FROM ready WHERE ctid = ANY (ARRAY(SELECT place FROM fit))
  RETURNING seq, claims, releases, crashes
)
INSERT INTO leased (owner, seq, lane, claims, releases, crashes, suspect, size, lease_until, lease_most)
SELECT :owner, seq, :lane, claims + 1, releases, crashes, :shelf = 1,
  (SELECT octet_length(body) FROM messages m WHERE m.seq = t.seq), :lease_until, :lease_most
FROM taken t;

-- name: earliest_ready
SELECT ready_at, seq FROM ready
WHERE lane = :lane AND shelf = :shelf AND priority = :priority
  AND (ready_at, seq) > (:after_at::bigint, :after_seq::bigint) AND (ready_at, seq) <= (:until_at::bigint, :until_seq::bigint)
ORDER BY ready_at, seq LIMIT 1;

-- name: leave_ready
DELETE FROM ready
WHERE lane = :lane AND shelf = :shelf AND priority = :priority AND ready_at = :ready_at AND seq = :seq;

-- name: look_ahead
-- When the next delay of a shelf ends, and whether crash suspects are ready.
SELECT (SELECT min(n.ready_at) FROM unnest(:priorities::smallint[]) AS p (priority) CROSS JOIN LATERAL (
          SELECT r.ready_at FROM ready r
          WHERE r.lane = :lane AND r.shelf = :shelf AND r.priority = p.priority AND r.ready_at > :now
          ORDER BY r.ready_at LIMIT 1) n),
       EXISTS (SELECT 1 FROM unnest(:priorities::smallint[]) AS p (priority) CROSS JOIN LATERAL (
          SELECT 1 FROM ready r
          WHERE r.lane = :lane AND r.shelf = 1 AND r.priority = p.priority AND r.ready_at <= :now LIMIT 1) s);

-- name: sum_slots
SELECT coalesce(sum(held), 0)::bigint FROM slots WHERE lane = :lane;

-- name: take_slots
INSERT INTO slots (lane, owner, held) VALUES (:lane, :owner, :held)
ON CONFLICT (lane, owner) DO UPDATE SET held = slots.held + excluded.held;

-- name: read_slots
SELECT held FROM slots WHERE lane = :lane AND owner = :owner FOR UPDATE;

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
