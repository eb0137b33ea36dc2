-- name: select_judged
-- As `select_ready`, without what only a handler needs: some of these are looked at and not taken.
SELECT r.seq, r.priority, r.ready_at, r.claims, r.releases, r.crashes, m.key, m.expires_at, m.first_ready_at, m.cost
FROM ready r CROSS JOIN messages m ON m.seq = r.seq
WHERE r.lane = :lane AND r.shelf = :shelf AND r.priority = :priority AND r.ready_at <= :now
ORDER BY r.ready_at, r.seq LIMIT :limit;

-- name: read_bodies
SELECT seq, id, body, content_type, sent_at, headers FROM messages WHERE seq IN carray(:seqs);

-- name: write_cost
UPDATE messages SET cost = :cost WHERE seq = :seq;
