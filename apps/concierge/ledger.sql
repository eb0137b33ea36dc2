-- Concierge's own tables. They lie in the file of the queue, if that is SQLite. Times are milliseconds since the epoch.

-- name: schema
CREATE TABLE IF NOT EXISTS concierge_messages (
  id TEXT PRIMARY KEY,
  channel TEXT NOT NULL,
  recipient TEXT NOT NULL,
  subject TEXT NOT NULL,
  content TEXT NOT NULL,
  priority TEXT NOT NULL,
  once INTEGER NOT NULL,
  state TEXT NOT NULL,
  version INTEGER NOT NULL DEFAULT 1,
  queued_version INTEGER,
  send_at INTEGER,
  attempt INTEGER NOT NULL DEFAULT 0,
  error TEXT,
  provider TEXT,
  reference TEXT,
  created_by TEXT NOT NULL,
  reviewed_by TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  sent_at INTEGER,
  ended_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS concierge_messages_created ON concierge_messages (created_at, id);
CREATE INDEX IF NOT EXISTS concierge_messages_state ON concierge_messages (state, created_at, id);
CREATE INDEX IF NOT EXISTS concierge_messages_reference ON concierge_messages (provider, reference)
  WHERE reference IS NOT NULL;
CREATE INDEX IF NOT EXISTS concierge_messages_due ON concierge_messages (send_at)
  WHERE state IN ('approved', 'queued') AND queued_version IS NULL;

CREATE TABLE IF NOT EXISTS concierge_history (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  message TEXT NOT NULL,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  event TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  detail TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS concierge_history_message ON concierge_history (message, number);

CREATE TABLE IF NOT EXISTS concierge_exports (
  id TEXT PRIMARY KEY,
  user TEXT NOT NULL,
  filters TEXT NOT NULL,
  format TEXT NOT NULL,
  state TEXT NOT NULL,
  rows_done INTEGER NOT NULL DEFAULT 0,
  rows_total INTEGER,
  last INTEGER,
  key TEXT,
  bytes INTEGER,
  sha256 TEXT,
  error TEXT,
  queued INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  ended_at INTEGER,
  expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS concierge_exports_created ON concierge_exports (created_at, id);

CREATE TABLE IF NOT EXISTS concierge_users (
  name TEXT PRIMARY KEY,
  role TEXT NOT NULL,
  password TEXT NOT NULL,
  disabled INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS concierge_keys (
  hash BLOB PRIMARY KEY,
  kind TEXT NOT NULL,
  user TEXT NOT NULL REFERENCES concierge_users (name) ON DELETE CASCADE,
  title TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  ends_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS concierge_keys_user ON concierge_keys (user, kind);

CREATE TABLE IF NOT EXISTS concierge_audit (
  number INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  role TEXT NOT NULL,
  address TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  result TEXT NOT NULL,
  hash BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS concierge_audit_at ON concierge_audit (at);

CREATE TABLE IF NOT EXISTS concierge_heads (
  name TEXT PRIMARY KEY,
  number INTEGER NOT NULL,
  hash BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What must not be deleted, whatever its age: all that is said of a user, a message, an address or an export, or all.
CREATE TABLE IF NOT EXISTS concierge_holds (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  reason TEXT NOT NULL,
  placed_by TEXT NOT NULL,
  placed_at INTEGER NOT NULL,
  lifted_by TEXT,
  lifted_at INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS concierge_holds_subject ON concierge_holds (kind, subject) WHERE lifted_at IS NULL;

-- What was deleted lies in these objects of the bucket.
CREATE TABLE IF NOT EXISTS concierge_archives (
  key TEXT PRIMARY KEY,
  target TEXT NOT NULL,
  rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  archived_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS concierge_counts (
  hour INTEGER NOT NULL,
  event TEXT NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (hour, event)
) STRICT, WITHOUT ROWID;

-- The audit trail.

-- name: head
SELECT number, hash FROM concierge_heads WHERE name = :name;

-- name: put_head
INSERT INTO concierge_heads (name, number, hash) VALUES (:name, :number, :hash)
ON CONFLICT (name) DO UPDATE SET number = excluded.number, hash = excluded.hash;

-- name: add_record
INSERT INTO concierge_audit (number, at, actor, role, address, action, target, result, hash)
VALUES (:number, :now, :actor, :role, :address, :action, :target, :result, :hash);

-- name: records_after
SELECT number, at, actor, role, address, action, target, result, hash FROM concierge_audit
WHERE number > :after ORDER BY number LIMIT :limit;

-- name: records_before
SELECT number, at, actor, role, address, action, target, result, hash FROM concierge_audit
WHERE number < :before AND (:actor IS NULL OR actor = :actor) AND (:action IS NULL OR action GLOB :action)
  AND (:target IS NULL OR target = :target) AND (:since IS NULL OR at >= :since)
ORDER BY number DESC LIMIT :limit;

-- name: forget_records
DELETE FROM concierge_audit WHERE number <= :number;

-- Messages.

-- name: find_message
SELECT id, channel, recipient, subject, content, priority, once, state, version, queued_version, send_at, attempt,
  error, provider, reference, created_by, reviewed_by, created_at, updated_at, sent_at, ended_at
FROM concierge_messages WHERE id = :id;

-- name: history_of
SELECT number, at, actor, event, attempt, detail FROM concierge_history WHERE message = :message ORDER BY number;
