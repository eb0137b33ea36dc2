-- name: call_keys
INSERT INTO called (lane, due_at, key) SELECT * FROM unnest(:lanes::bigint[], :due_ats::bigint[], :keys::text[]);

-- name: call_lane
-- Every key that has a message there.
INSERT INTO called (lane, due_at, key) SELECT DISTINCT lane, :now::bigint, key FROM keyed WHERE lane = :lane;

-- name: hear_called
DELETE FROM called WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM called WHERE lane = :lane AND due_at <= :now ORDER BY due_at LIMIT :limit))
RETURNING key;

-- name: offers_of_keys
-- What each has to give at a level of priority, in the order of claims. Suspects lie on another shelf.
SELECT g.key, o.* FROM unnest(:keys::text[], :most::bigint[]) AS g (key, most) CROSS JOIN LATERAL (
  SELECT r.seq, r.priority, r.ready_at, r.claims, r.releases, r.crashes, m.key, m.expires_at, m.first_ready_at, m.cost
  FROM keyed k
  CROSS JOIN LATERAL (SELECT * FROM ready WHERE lane = k.lane AND shelf = 0 AND priority = k.priority
    AND ready_at = k.ready_at AND seq = k.seq OFFSET 0) r
  CROSS JOIN LATERAL (SELECT key, expires_at, first_ready_at, cost FROM messages WHERE seq = k.seq OFFSET 0) m
  WHERE k.lane = :lane AND k.key = g.key AND k.place = 2 AND k.priority = :priority AND k.ready_at <= :now
  ORDER BY k.ready_at, k.seq LIMIT g.most) o;

-- name: offered_heads
-- The same for ordered keys: the first message of each, if it may go.
SELECT g.key, r.seq, r.priority, r.ready_at, r.claims, r.releases, r.crashes, m.key, m.expires_at, m.first_ready_at, m.cost
FROM unnest(:keys::text[]) AS g (key)
CROSS JOIN LATERAL (SELECT * FROM keyed WHERE lane = :lane AND key = g.key ORDER BY seq LIMIT 1) k
CROSS JOIN LATERAL (SELECT * FROM ready WHERE lane = k.lane AND shelf = 0 AND priority = k.priority
  AND ready_at = k.ready_at AND seq = k.seq OFFSET 0) r
CROSS JOIN LATERAL (SELECT key, expires_at, first_ready_at, cost FROM messages WHERE seq = k.seq OFFSET 0) m
WHERE k.place = 2 AND k.priority = :priority AND k.ready_at <= :now;

-- name: next_of_keys
-- When something of each is ready that is not yet.
SELECT g.key, min(n.ready_at) FROM unnest(:keys::text[]) AS g (key) CROSS JOIN unnest(:priorities::smallint[]) AS p (priority)
CROSS JOIN LATERAL (
  SELECT ready_at FROM keyed WHERE lane = :lane AND key = g.key AND place = 2 AND priority = p.priority AND ready_at > :now
  ORDER BY ready_at LIMIT 1) n
GROUP BY g.key;

-- name: read_line
SELECT turn, key, remains FROM turns WHERE lane = :lane AND priority = :priority ORDER BY turn LIMIT :limit;

-- name: who_is_in_line
SELECT priority, key FROM turns WHERE lane = :lane AND priority = ANY (:priorities::smallint[]) AND key = ANY (:keys::text[]);

-- name: end_of_line
SELECT coalesce(max(turn), 0) FROM turns WHERE lane = :lane AND priority = :priority;

-- name: join_line
INSERT INTO turns (lane, priority, turn, key, remains)
SELECT :lane::bigint, u.* FROM unnest(:priorities::smallint[], :turns::bigint[], :keys::text[], :remains::integer[]) AS u;

-- name: move_in_line
UPDATE turns SET turn = m.turn, remains = m.remains
FROM (
  SELECT t.ctid AS place, u.turn, u.remains
  FROM unnest(:turns::bigint[], :remains::integer[], :from_turns::bigint[]) AS u (turn, remains, from_turn)
  CROSS JOIN LATERAL (SELECT ctid FROM turns WHERE lane = :lane AND priority = :priority AND turn = u.from_turn OFFSET 0) t
) m
WHERE turns.ctid = m.place;

-- name: leave_line
DELETE FROM turns WHERE lane = :lane AND priority = :priority AND turn = ANY (:turns::bigint[]);

-- name: drop_line
DELETE FROM turns WHERE lane = :lane;

-- name: drop_called
DELETE FROM called WHERE lane = :lane;
