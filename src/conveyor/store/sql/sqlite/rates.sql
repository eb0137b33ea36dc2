-- name: read_window
SELECT key, entries, opens_at FROM rates WHERE queue = :queue AND key = :key;

-- name: put_window
INSERT INTO rates (queue, key, entries, ends_at, opens_at) VALUES (:queue, :key, :entries, :ends_at, :opens_at)
ON CONFLICT (queue, key) DO UPDATE SET entries = excluded.entries, ends_at = excluded.ends_at, opens_at = excluded.opens_at;

-- name: rest_key
INSERT INTO rates (queue, key, entries, ends_at, opens_at) VALUES (:queue, :key, '[]', 0, :until)
ON CONFLICT (queue, key) DO UPDATE SET opens_at = max(coalesce(opens_at, 0), excluded.opens_at);

-- name: open_keys
-- Those whose time has come, and who are no longer closed from here on.
UPDATE rates SET opens_at = NULL WHERE (queue, key) IN
  (SELECT queue, key FROM rates WHERE queue = :queue AND opens_at IS NOT NULL AND opens_at <= :now ORDER BY opens_at LIMIT :limit)
RETURNING key, entries;

-- name: open_stale_keys
-- Closed for longer than anything that is written now: a rest, or a rate whose window says so too.
UPDATE rates SET opens_at = :now
WHERE queue = :queue AND opens_at IS NOT NULL AND opens_at > :opening AND (opens_at > :rest OR ends_at > :window);

-- name: next_opening
SELECT min(opens_at) FROM rates WHERE queue = :queue AND opens_at IS NOT NULL;

-- name: open_all_keys
UPDATE rates SET opens_at = NULL WHERE queue = :queue AND opens_at IS NOT NULL;

-- name: drop_key_windows
DELETE FROM rates WHERE queue = :queue AND key <> '';

-- name: drop_windows
DELETE FROM rates WHERE queue = :queue;

-- name: mark_rests_keys
UPDATE queues SET rests_keys = 1 WHERE lane = :lane;

-- name: sweep_rates
DELETE FROM rates WHERE (queue, key) IN
  (SELECT queue, key FROM rates WHERE opens_at IS NULL AND ends_at <= :now ORDER BY ends_at LIMIT :limit);
