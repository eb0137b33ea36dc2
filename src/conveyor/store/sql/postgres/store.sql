-- name: begin
-- Everything is local to the transaction, so that a pooler may hand the next one to another session. Plans are made once
-- and walk indexes whatever the statistics say or do not say.
BEGIN;
SET LOCAL search_path TO :schema;
SET LOCAL enable_seqscan TO off;
SET LOCAL enable_hashjoin TO off;
SET LOCAL enable_mergejoin TO off;
SET LOCAL plan_cache_mode TO force_generic_plan;
SET LOCAL jit TO off

-- name: relax
SET LOCAL synchronous_commit TO off

-- name: share_catalog
-- Held by every transaction: the queues are what it read until it ends.
SELECT pg_advisory_xact_lock_shared(hashtextextended(current_schema(), 0))

-- name: hold_catalog
-- Held by whoever changes a queue.
SELECT pg_advisory_xact_lock(hashtextextended(current_schema(), 0))

-- name: read_head
-- The transaction's time, and how old the queues are that we know.
SELECT coalesce(:now::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint), catalog_version FROM store

-- name: lock_lane
SELECT pg_advisory_xact_lock(hashtextextended(current_schema(), :lane::bigint))

-- name: lock_sweep
SELECT pg_try_advisory_xact_lock(hashtextextended(current_schema(), -1))

-- name: bump_catalog_version
UPDATE store SET catalog_version = catalog_version + 1 RETURNING catalog_version

-- name: next_lane
SELECT nextval('lane_seq')

-- name: add_counts
-- The last statement of a transaction that wrote: one delta for each lane, and the group's receipt.
WITH receipt AS (
  INSERT INTO receipts (writer, number, committed_at) VALUES (:writer, :number, :committed_at)
  ON CONFLICT (writer) DO UPDATE SET number = excluded.number, committed_at = excluded.committed_at
)
INSERT INTO counters (lane, messages, bytes)
SELECT * FROM unnest(:lanes::bigint[], :messages::bigint[], :bytes::bigint[])

-- name: read_counts
SELECT coalesce(sum(messages), 0)::bigint, coalesce(sum(bytes), 0)::bigint, count(*) FROM counters WHERE lane = :lane

-- name: fold_counters
WITH gone AS (DELETE FROM counters WHERE lane = :lane RETURNING messages, bytes)
INSERT INTO counters (lane, messages, bytes) SELECT :lane, sum(messages), sum(bytes) FROM gone HAVING count(*) > 0

-- name: read_receipt
-- An upsert, because it waits for a transaction that is still on its way.
INSERT INTO receipts (writer, number, committed_at) VALUES (:writer, -1, 0)
ON CONFLICT (writer) DO UPDATE SET writer = excluded.writer RETURNING number

-- name: notify
SELECT pg_notify(:channel, :payload)

-- name: find_crowd
-- Whether the next who come may find no connection left.
SELECT count(*) + 1 >= current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
  - coalesce(current_setting('reserved_connections', true), '0')::integer
FROM pg_stat_activity WHERE backend_type = 'client backend'
