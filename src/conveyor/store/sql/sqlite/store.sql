-- name: read_store
SELECT catalog_version, last_seq FROM store;

-- name: bump_catalog_version
UPDATE store SET catalog_version = catalog_version + 1 RETURNING catalog_version;

-- name: write_last_seq
UPDATE store SET last_seq = :last_seq;

-- name: take_write_lock
-- Changes nothing: the first write of a transaction that somebody else began.
UPDATE store SET last_seq = last_seq;

-- name: next_lane
UPDATE store SET last_lane = last_lane + 1 RETURNING last_lane;

-- name: next_owner
UPDATE store SET last_owner = last_owner + 1 RETURNING last_owner;

-- name: read_anchor
SELECT boot, boot_ms, wall_ms FROM store;

-- name: write_anchor
UPDATE store SET boot = :boot, boot_ms = :boot_ms, wall_ms = :wall_ms;

-- name: read_identity
SELECT id FROM store;

-- name: count_live_owners
SELECT count(*) FROM owners WHERE lease_until > :now;

-- name: add_counts
-- One row for each lane that a commit group touched.
INSERT INTO counters (lane, messages, bytes) VALUES (:lane, :messages, :bytes)
ON CONFLICT (lane) DO UPDATE SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes;

-- name: read_counts
SELECT messages, bytes FROM counters WHERE lane = :lane;

-- name: put_receipt
INSERT INTO receipts (writer, number, committed_at) VALUES (:writer, :number, :committed_at)
ON CONFLICT (writer) DO UPDATE SET number = excluded.number, committed_at = excluded.committed_at;

-- name: read_receipt
SELECT number FROM receipts WHERE writer = :writer;
