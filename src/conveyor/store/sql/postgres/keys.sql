-- name: add_keyed
INSERT INTO keyed (lane, key, seq, place, priority, ready_at)
SELECT * FROM unnest(:lanes::bigint[], :keys::text[], :seqs::bigint[], :places::smallint[], :priorities::smallint[],
  :ready_ats::bigint[]);

-- name: drop_keyed
DELETE FROM keyed WHERE ctid = ANY (ARRAY(
  SELECT k.ctid FROM unnest(:keys::text[], :seqs::bigint[]) AS g (key, seq) CROSS JOIN LATERAL (
    SELECT ctid FROM keyed WHERE lane = :lane AND key = g.key AND seq = g.seq OFFSET 0) k))
RETURNING key, place;

-- name: put_keyed
UPDATE keyed SET place = :place, priority = :priority, ready_at = :ready_at
WHERE lane = :lane AND key = :key AND seq = :seq;

-- name: heads_of_keys
-- The first message of each that is not final.
SELECT k.key, k.seq, k.place, k.priority, k.ready_at FROM unnest(:keys::text[]) AS g (key) CROSS JOIN LATERAL (
  SELECT * FROM keyed WHERE lane = :lane AND key = g.key ORDER BY seq LIMIT 1) k;

-- name: blocked_of_keys
-- In the order of claims, as many of each as are asked for.
SELECT k.key, k.seq, k.priority, k.ready_at, m.cost FROM unnest(:keys::text[], :most::bigint[]) AS g (key, most)
CROSS JOIN LATERAL (
  SELECT * FROM keyed WHERE lane = :lane AND key = g.key AND place = 2 ORDER BY priority DESC, ready_at, seq LIMIT g.most) k
CROSS JOIN LATERAL (SELECT cost FROM messages WHERE seq = k.seq OFFSET 0) m;

-- name: key_states
-- What a claim must know of keys: how many are leased, which is the first, what was used of their rate.
SELECT g.key,
  CASE WHEN :limits::boolean THEN (SELECT count(*) FROM keyed WHERE lane = :lane AND key = g.key AND place = 1) ELSE 0 END,
  CASE WHEN :ordered::boolean THEN (SELECT seq FROM keyed WHERE lane = :lane AND key = g.key ORDER BY seq LIMIT 1) END,
  r.entries, r.opens_at
FROM unnest(:keys::text[]) AS g (key) LEFT JOIN LATERAL (
  SELECT entries, opens_at FROM rates WHERE queue = :queue AND key = g.key AND :closes::boolean OFFSET 0) r ON true;

-- name: block
-- Put aside until their keys have room.
WITH refused AS MATERIALIZED (
  SELECT * FROM unnest(:keys::text[], :seqs::bigint[], :priorities::smallint[], :ready_ats::bigint[])
    AS u (key, seq, priority, ready_at)
), moved AS (
  UPDATE ready SET shelf = 2 WHERE ctid = ANY (ARRAY(SELECT r.ctid FROM refused f CROSS JOIN LATERAL (
    SELECT ctid FROM ready WHERE lane = :lane AND shelf = 0 AND priority = f.priority AND ready_at = f.ready_at
      AND seq = f.seq OFFSET 0) r))
)
UPDATE keyed SET place = 2, priority = f.priority, ready_at = f.ready_at
FROM refused f WHERE lane = :lane AND keyed.key = f.key AND keyed.seq = f.seq;

-- name: unblock
WITH chosen AS MATERIALIZED (
  SELECT * FROM unnest(:keys::text[], :seqs::bigint[], :priorities::smallint[], :ready_ats::bigint[])
    AS u (key, seq, priority, ready_at)
), moved AS (
  UPDATE ready SET shelf = 0 WHERE ctid = ANY (ARRAY(SELECT r.ctid FROM chosen c CROSS JOIN LATERAL (
    SELECT ctid FROM ready WHERE lane = :lane AND shelf = 2 AND priority = c.priority AND ready_at = c.ready_at
      AND seq = c.seq OFFSET 0) r))
)
UPDATE keyed SET place = 0 FROM chosen c WHERE lane = :lane AND keyed.key = c.key AND keyed.seq = c.seq;

-- name: gate_ready_keys
INSERT INTO keyed (lane, key, seq, place, priority, ready_at)
SELECT r.lane, coalesce(m.key, ''), r.seq, :place::smallint, m.priority, m.ready_at FROM ready r JOIN messages m ON m.seq = r.seq
WHERE r.lane = :lane AND (m.key IS NOT NULL OR :fair::boolean) ON CONFLICT DO NOTHING;

-- name: gate_leased_keys
INSERT INTO keyed (lane, key, seq, place, priority, ready_at)
SELECT l.lane, coalesce(m.key, ''), l.seq, 1, m.priority, m.ready_at FROM leased l JOIN messages m ON m.seq = l.seq
WHERE l.lane = :lane AND (m.key IS NOT NULL OR :fair::boolean) ON CONFLICT DO NOTHING;

-- name: unblock_lane
UPDATE ready SET shelf = 0 WHERE lane = :lane AND shelf = 2;

-- name: drop_keyed_lane
DELETE FROM keyed WHERE lane = :lane;
