-- name: knows_outbox
SELECT to_regclass(:table::text) IS NOT NULL

-- name: look_from_tx
-- In the user's transaction, as are all that name their schema: nothing there says where `outbox` is found.
SELECT s.id, current_setting('transaction_read_only') = 'on', q.lane, q.settings, q.consumer
FROM :schema.store s LEFT JOIN :schema.queues q ON q.name = :queue::text

-- name: put_outbox
INSERT INTO :schema.outbox (queue, draft, body, dedupe, sent_at)
SELECT d.queue, d.draft, d.body, d.dedupe, coalesce(:now::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
FROM unnest(:queues::text[], :drafts::text[], :bodies::bytea[], :dedupes::text[]) WITH ORDINALITY
  AS d (queue, draft, body, dedupe, place)
ORDER BY d.place RETURNING place

-- name: depth_from_tx
-- What waits in the lane, and what is on its way there from transactions that have ended, and from this one.
SELECT coalesce(sum(w.messages), 0)::bigint, coalesce(sum(w.bytes), 0)::bigint FROM (
  SELECT messages, bytes FROM :schema.counters WHERE lane = :lane::bigint
  UNION ALL
  SELECT count(*), sum(octet_length(body)) FROM :schema.outbox WHERE queue = :queue::text
) w

-- name: dedupe_from_tx
-- The ids of messages that hold these keys; of one on its way, the draft.
SELECT k.key, d.id, (SELECT o.draft FROM :schema.outbox o WHERE o.queue = :queue::text AND o.dedupe = k.key ORDER BY o.place LIMIT 1)
FROM unnest(:keys::text[]) AS k (key)
LEFT JOIN :schema.dedupe d ON d.lane = :lane::bigint AND d.key = k.key
  AND (d.until > coalesce(:now::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    OR EXISTS (SELECT 1 FROM :schema.messages m WHERE m.seq = d.seq AND m.id = d.id AND m.lane = d.lane))

-- name: ack_from_tx
-- Once: the second ack in one transaction finds the first.
INSERT INTO :schema.acks (owner, seq, claims)
SELECT l.owner, l.seq, l.claims FROM :schema.leased l
WHERE l.owner = :owner::bigint AND l.seq = :seq::bigint AND l.claims = :claim::integer
  AND NOT EXISTS (SELECT 1 FROM :schema.acks a WHERE a.seq = l.seq AND a.claims = l.claims)
RETURNING seq

-- name: read_store_id
SELECT id FROM store

-- name: is_anything_sent
-- What somebody else carries right now is still seen.
SELECT EXISTS (SELECT 1 FROM outbox WHERE place > :after)

-- name: is_anything_acked
SELECT EXISTS (SELECT 1 FROM leased WHERE owner = -1 AND seq > :after)

-- name: read_outbox_depth
-- Asked before the counters are: what is carried in between counts twice rather than not at all.
SELECT count(*), coalesce(sum(octet_length(body)), 0)::bigint FROM outbox WHERE queue = :queue

-- name: lock_outbox
-- One carrier at a time: what was committed first comes first.
SELECT pg_advisory_xact_lock(hashtextextended(current_schema(), -2))

-- name: try_outbox
SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema(), -2))

-- name: take_outbox
WITH taken AS (
  DELETE FROM outbox WHERE place = ANY (ARRAY(SELECT place FROM outbox WHERE place > :after ORDER BY place LIMIT :limit))
  RETURNING place, draft, body, sent_at
)
SELECT place, draft, body, sent_at FROM taken ORDER BY place

-- name: acked_leases
SELECT seq, claims FROM leased WHERE owner = -1 AND seq > :after ORDER BY seq LIMIT :limit

-- name: read_lane_unless_acked
SELECT lane FROM messages WHERE seq = :seq AND NOT EXISTS (SELECT 1 FROM leased WHERE owner = -1 AND seq = :seq)
