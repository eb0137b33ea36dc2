-- Attempts to send: one row for what has one key, of the last attempt. And how each provider's circuit stands.
-- `_at` is milliseconds since the epoch, `_s` seconds.

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

CREATE TABLE IF NOT EXISTS circuits (
  provider TEXT PRIMARY KEY,
  failures INTEGER NOT NULL,
  openings INTEGER NOT NULL,
  until_s REAL,
  probing_until_s REAL NOT NULL,
  round INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

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

-- name: find_circuit
SELECT failures, openings, until_s, probing_until_s, round FROM circuits WHERE provider = :provider;

-- name: set_circuit
INSERT INTO circuits (provider, failures, openings, until_s, probing_until_s, round)
VALUES (:provider, :failures, :openings, :until_s, :probing_until_s, :round)
ON CONFLICT (provider) DO UPDATE SET failures = excluded.failures, openings = excluded.openings,
  until_s = excluded.until_s, probing_until_s = excluded.probing_until_s, round = excluded.round;
