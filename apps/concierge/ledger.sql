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
  carrier TEXT,
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
  WHERE state = 'queued' AND carrier IS NULL;

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

-- What came before the provider's answer did.
CREATE TABLE IF NOT EXISTS concierge_receipts (
  provider TEXT NOT NULL,
  reference TEXT NOT NULL,
  state TEXT NOT NULL,
  detail TEXT NOT NULL,
  again_after_s REAL,
  at INTEGER NOT NULL,
  PRIMARY KEY (provider, reference)
) STRICT, WITHOUT ROWID;

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
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  ended_at INTEGER,
  expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS concierge_exports_created ON concierge_exports (created_at, id);

CREATE TABLE IF NOT EXISTS concierge_users (
  name TEXT PRIMARY KEY,
  role TEXT NOT NULL,
  address TEXT NOT NULL,
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
SELECT id, channel, recipient, subject, content, priority, once, state, version, carrier, send_at, attempt,
  error, provider, reference, created_by, reviewed_by, created_at, updated_at, sent_at, ended_at
FROM concierge_messages WHERE id = :id;

-- name: history_of
SELECT number, at, actor, event, attempt, detail FROM concierge_history WHERE message = :message ORDER BY number;

-- name: add_message
INSERT INTO concierge_messages (id, channel, recipient, subject, content, priority, once, state, send_at, created_by,
  created_at, updated_at)
VALUES (:id, :channel, :recipient, :subject, :content, :priority, :once, :state, :send_at, :created_by, :now, :now);

-- name: set_state
UPDATE concierge_messages SET state = :state, attempt = :attempt, error = :error, updated_at = :now,
  ended_at = :ended_at WHERE id = :id;

-- name: set_text
UPDATE concierge_messages SET recipient = :recipient, subject = :subject, content = :content, priority = :priority,
  once = :once, send_at = :send_at, version = version + 1, carrier = NULL, updated_at = :now WHERE id = :id;

-- name: set_send_at
UPDATE concierge_messages SET send_at = :send_at WHERE id = :id;

-- name: set_carrier
UPDATE concierge_messages SET carrier = :carrier WHERE id = :id;

-- name: set_reviewer
UPDATE concierge_messages SET reviewed_by = :reviewer WHERE id = :id;

-- name: set_taken
UPDATE concierge_messages SET provider = :provider, reference = :reference, sent_at = :now WHERE id = :id;

-- name: add_history
INSERT INTO concierge_history (message, at, actor, event, attempt, detail)
VALUES (:message, :now, :actor, :event, :attempt, :detail);

-- name: count_event
INSERT INTO concierge_counts (hour, event, count) VALUES (:now / 3600000, :event, 1)
ON CONFLICT (hour, event) DO UPDATE SET count = count + 1;

-- name: send_again
UPDATE concierge_messages SET version = version + 1, carrier = NULL, send_at = :send_at, provider = NULL,
  reference = NULL, sent_at = NULL WHERE id = :id;

-- name: times_again
SELECT count(*) FROM concierge_history WHERE message = :id AND event = 'sent_again';

-- name: message_of_receipt
SELECT id FROM concierge_messages WHERE provider = :provider AND reference = :reference LIMIT 1;

-- name: due
SELECT id FROM concierge_messages WHERE state = 'queued' AND carrier IS NULL
  AND (send_at IS NULL OR send_at <= :until) ORDER BY send_at LIMIT :limit;

-- name: inbox
SELECT id, channel, recipient, subject, content, priority, once, state, version, carrier, send_at, attempt,
  error, provider, reference, created_by, reviewed_by, created_at, updated_at, sent_at, ended_at
FROM concierge_messages
WHERE (created_at, id) < (:at, :id) AND (:channel IS NULL OR channel = :channel)
  AND (:author IS NULL OR created_by = :author) AND (:recipient IS NULL OR recipient = :recipient)
ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: inbox_of_state
SELECT id, channel, recipient, subject, content, priority, once, state, version, carrier, send_at, attempt,
  error, provider, reference, created_by, reviewed_by, created_at, updated_at, sent_at, ended_at
FROM concierge_messages
WHERE state = :state AND (created_at, id) < (:at, :id) AND (:channel IS NULL OR channel = :channel)
  AND (:author IS NULL OR created_by = :author) AND (:recipient IS NULL OR recipient = :recipient)
ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: states
SELECT state, count(*) FROM concierge_messages GROUP BY state;

-- name: recent_history
SELECT number, message, at, actor, event, attempt, detail FROM concierge_history ORDER BY number DESC LIMIT :limit;

-- name: counts
SELECT event, sum(count) FROM concierge_counts WHERE hour > :now / 3600000 - :hours GROUP BY event;

-- People, and what they come in with.

-- name: add_user
INSERT INTO concierge_users (name, role, address, password, created_at)
VALUES (:name, :role, :address, :password, :now) ON CONFLICT (name) DO NOTHING;

-- name: find_user
SELECT name, role, address, password, disabled, created_at FROM concierge_users WHERE name = :name;

-- name: users
SELECT name, role, address, password, disabled, created_at FROM concierge_users ORDER BY name LIMIT 1000;

-- name: set_user
UPDATE concierge_users SET role = :role, address = :address, disabled = :disabled WHERE name = :name;

-- name: set_password
UPDATE concierge_users SET password = :password WHERE name = :name;

-- name: add_key
INSERT INTO concierge_keys (hash, kind, user, title, created_at, seen_at, ends_at)
VALUES (:hash, :kind, :user, :title, :now, :now, :ends_at);

-- name: find_key
SELECT k.kind, k.user, k.created_at, k.seen_at, k.ends_at, u.role, u.address
FROM concierge_keys k JOIN concierge_users u ON u.name = k.user WHERE k.hash = :hash AND u.disabled = 0;

-- name: touch_key
UPDATE concierge_keys SET seen_at = :now WHERE hash = :hash;

-- name: drop_key
DELETE FROM concierge_keys WHERE hash = :hash;

-- name: drop_keys_of
DELETE FROM concierge_keys WHERE user = :user AND (:kind IS NULL OR kind = :kind);

-- name: keys_of
SELECT hex(substr(hash, 1, 6)), title, created_at, seen_at, ends_at FROM concierge_keys
WHERE user = :user AND kind = 'token' ORDER BY created_at;

-- name: drop_token
DELETE FROM concierge_keys WHERE user = :user AND kind = 'token' AND hex(substr(hash, 1, 6)) = :id;

-- name: drop_old_keys
DELETE FROM concierge_keys WHERE ends_at <= :now;

-- name: list_exports
SELECT id, user, filters, format, state, rows_done, rows_total, last, key, bytes, sha256, error, created_at, updated_at,
  ended_at, expires_at
FROM concierge_exports WHERE (created_at, id) < (:at, :id) ORDER BY created_at DESC, id DESC LIMIT :limit;

-- name: keep_receipt
INSERT INTO concierge_receipts (provider, reference, state, detail, again_after_s, at)
VALUES (:provider, :reference, :state, :detail, :again_after_s, :now)
ON CONFLICT (provider, reference) DO UPDATE SET state = excluded.state, detail = excluded.detail,
  again_after_s = excluded.again_after_s;

-- name: kept_receipt
DELETE FROM concierge_receipts WHERE provider = :provider AND reference = :reference 
RETURNING state, detail, again_after_s;

-- name: forget_receipts
DELETE FROM concierge_receipts WHERE at < :now - 604800000;
