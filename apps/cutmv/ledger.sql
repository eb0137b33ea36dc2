-- cutmv's own tables, in its own file. Times are milliseconds since the epoch.

-- name: schema
CREATE TABLE IF NOT EXISTS uploads (
  id         TEXT    PRIMARY KEY,
  name       TEXT    NOT NULL,
  size       INTEGER NOT NULL,
  received   INTEGER NOT NULL DEFAULT 0,
  state      TEXT    NOT NULL CHECK (state IN ('receiving', 'examining', 'ready', 'refused')),
  media      TEXT,
  previews   INTEGER NOT NULL DEFAULT 0,
  error      TEXT,
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS uploads_created ON uploads (created_at);
CREATE TABLE IF NOT EXISTS orders (
  id         TEXT    PRIMARY KEY,
  body       TEXT    NOT NULL,
  generation INTEGER NOT NULL DEFAULT 1,
  state      TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'retrying', 'succeeded', 'failed', 'cancelled')),
  way        TEXT    CHECK (way IN ('queue', 'direct')),
  attempt    INTEGER NOT NULL DEFAULT 0,
  error      TEXT,
  seq        INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  heard_at   INTEGER NOT NULL,
  ended_at   INTEGER
) STRICT;
CREATE INDEX IF NOT EXISTS orders_state ON orders (state, heard_at);
CREATE INDEX IF NOT EXISTS orders_created ON orders (created_at);
CREATE TABLE IF NOT EXISTS outputs (
  order_id TEXT    NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  name     TEXT    NOT NULL,
  format   TEXT    NOT NULL,
  clip     INTEGER NOT NULL,
  fraction REAL    NOT NULL DEFAULT 0,
  speed    REAL,
  size     INTEGER,
  PRIMARY KEY (order_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  order_id TEXT    NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
  seq      INTEGER NOT NULL,
  body     TEXT    NOT NULL,
  PRIMARY KEY (order_id, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ended (
  state   TEXT    NOT NULL,
  way     TEXT    NOT NULL,
  count   INTEGER NOT NULL,
  seconds REAL    NOT NULL,
  PRIMARY KEY (state, way)
) STRICT, WITHOUT ROWID;

-- name: add_upload
INSERT INTO uploads (id, name, size, state, created_at) VALUES (:id, :name, :size, 'receiving', :now)

-- name: sum_uploads
SELECT count(*), coalesce(sum(size), 0) FROM uploads

-- name: sum_outputs
SELECT coalesce(sum(size), 0) FROM outputs

-- name: find_upload
SELECT id, name, size, received, state, media, previews, error, created_at FROM uploads WHERE id = :id

-- name: receive
UPDATE uploads SET received = :received, state = :state WHERE id = :id AND state = 'receiving'

-- name: examined
UPDATE uploads SET state = :state, media = :media, previews = :previews, error = :error
WHERE id = :id AND state = 'examining'

-- name: examining
SELECT id FROM uploads WHERE state = 'examining'

-- name: old_uploads
SELECT id FROM uploads WHERE created_at < :before ORDER BY created_at LIMIT 200

-- name: upload_is_used
SELECT 1 FROM orders WHERE state IN ('queued', 'running', 'retrying') AND body ->> 'upload' = :id LIMIT 1

-- name: delete_upload
DELETE FROM uploads WHERE id = :id

-- name: add_order
INSERT INTO orders (id, body, state, created_at, heard_at) VALUES (:id, :body, 'queued', :now, :now)

-- name: add_output
INSERT INTO outputs (order_id, position, name, format, clip) VALUES (:id, :position, :name, :format, :clip)

-- name: find_order
SELECT id, body, generation, state, way, attempt, error, seq, created_at, started_at, ended_at FROM orders WHERE id = :id

-- name: outputs_of
SELECT name, format, clip, fraction, speed, size FROM outputs WHERE order_id = :id ORDER BY position

-- name: set_order
UPDATE orders SET state = :state, attempt = :attempt, error = :error, seq = seq + 1, heard_at = :now,
  started_at = CASE WHEN :state = 'queued' THEN NULL ELSE coalesce(started_at, CASE WHEN :state = 'running' THEN :now END) END,
  ended_at = CASE WHEN :state IN ('succeeded', 'failed', 'cancelled') THEN :now END
WHERE id = :id

-- name: set_way
UPDATE orders SET way = :way, heard_at = :now WHERE id = :id AND generation = :generation

-- name: next_generation
UPDATE orders SET generation = generation + 1, way = NULL, body = json_set(body, '$.generation', generation + 1)
WHERE id = :id

-- name: heard
UPDATE orders SET heard_at = :now WHERE id = :id

-- name: forward
UPDATE outputs SET fraction = max(fraction, :fraction), speed = :speed, size = coalesce(:size, size)
WHERE order_id = :id AND name = :name AND (fraction < :fraction OR size IS NULL AND :size IS NOT NULL)

-- name: rewind
UPDATE outputs SET fraction = 0, speed = NULL WHERE order_id = :id AND size IS NULL

-- name: fraction_of
SELECT coalesce(avg(fraction), 0), count(*) - count(size) FROM outputs WHERE order_id = :id

-- name: add_event
INSERT INTO events (order_id, seq, body) VALUES (:id, :seq, :body)

-- name: forget_events
DELETE FROM events WHERE order_id = :id AND seq <= :seq

-- name: events_after
SELECT seq, body FROM events WHERE order_id = :id AND seq > :seq ORDER BY seq

-- name: count_end
INSERT INTO ended (state, way, count, seconds) VALUES (:state, :way, 1, :seconds)
ON CONFLICT (state, way) DO UPDATE SET count = count + 1, seconds = seconds + excluded.seconds

-- name: ends
SELECT state, way, count, seconds FROM ended ORDER BY state, way

-- name: states
SELECT state, count(*) FROM orders GROUP BY state

-- name: adrift
SELECT body FROM orders WHERE state IN ('queued', 'running', 'retrying') AND (way IS NULL OR way = 'direct')

-- name: under_way
SELECT count(*) FROM orders WHERE state IN ('queued', 'running', 'retrying')

-- name: silent
SELECT body FROM orders WHERE state IN ('queued', 'running', 'retrying') AND heard_at < :before LIMIT 200

-- name: old_orders
SELECT id FROM orders WHERE created_at < :before AND state IN ('succeeded', 'failed', 'cancelled') LIMIT 200

-- name: delete_order
DELETE FROM orders WHERE id = :id
