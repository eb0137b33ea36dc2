-- Addresses that nothing more is sent to. Times are milliseconds since the epoch.

-- name: schema
CREATE TABLE IF NOT EXISTS concierge_suppressions (
  id TEXT PRIMARY KEY,
  channel TEXT NOT NULL,
  recipient TEXT NOT NULL,
  cause TEXT NOT NULL,
  message TEXT,
  note TEXT NOT NULL,
  placed_by TEXT NOT NULL,
  placed_at INTEGER NOT NULL,
  lifted_by TEXT,
  lifted_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS concierge_suppressions_recipient ON concierge_suppressions (channel, recipient)
  WHERE lifted_at IS NULL;
CREATE INDEX IF NOT EXISTS concierge_suppressions_placed ON concierge_suppressions (placed_at, id);

-- name: add_suppression
INSERT INTO concierge_suppressions (id, channel, recipient, cause, message, note, placed_by, placed_at)
VALUES (:id, :channel, :recipient, :cause, :message, :note, :by, :now);

-- name: find_suppression
SELECT id, cause FROM concierge_suppressions
WHERE channel = :channel AND recipient = :recipient AND lifted_at IS NULL;

-- name: lift_suppression
UPDATE concierge_suppressions SET lifted_by = :by, lifted_at = :now WHERE id = :id AND lifted_at IS NULL;

-- name: suppressions
SELECT id, channel, recipient, cause, message, note, placed_by, placed_at, lifted_by, lifted_at
FROM concierge_suppressions
WHERE (placed_at, id) < (:at, :id) AND (:recipient IS NULL OR recipient = :recipient)
ORDER BY placed_at DESC, id DESC LIMIT :limit;
