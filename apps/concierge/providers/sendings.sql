-- Attempts to send: one row for what has one key, of the last attempt. Times are milliseconds since the epoch.

-- name: schema
CREATE TABLE IF NOT EXISTS sendings (
  key TEXT PRIMARY KEY,
  provider TEXT NOT NULL,
  turn INTEGER NOT NULL,
  began_at INTEGER NOT NULL,
  reference TEXT,
  is_open INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sendings_reference ON sendings (provider, reference) WHERE reference IS NOT NULL;
CREATE INDEX IF NOT EXISTS sendings_began ON sendings (began_at);

-- name: find_sending
SELECT provider, turn, began_at, reference, is_open FROM sendings WHERE key = :key;

-- name: begin_sending
INSERT INTO sendings (key, provider, turn, began_at, is_open) VALUES (:key, :provider, :turn, :now, 1)
ON CONFLICT (key) DO UPDATE SET provider = excluded.provider, turn = excluded.turn, began_at = excluded.began_at,
  reference = NULL, is_open = 1;

-- name: end_sending
UPDATE sendings SET reference = :reference, is_open = 0 WHERE key = :key AND turn = :turn;

-- name: known_sending
SELECT 1 FROM sendings WHERE provider = :provider AND reference = :reference LIMIT 1;

-- name: forget_sendings
DELETE FROM sendings WHERE began_at < :before;
