-- What was counted, over all processes; and what is wrong just now. Times are milliseconds since the epoch.

-- name: schema
CREATE TABLE IF NOT EXISTS concierge_metrics (
  name TEXT NOT NULL,
  labels TEXT NOT NULL,
  count INTEGER NOT NULL,
  sum REAL NOT NULL,
  PRIMARY KEY (name, labels)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS concierge_alarms (
  name TEXT PRIMARY KEY,
  raised_at INTEGER NOT NULL,
  detail TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- name: add_metric
INSERT INTO concierge_metrics (name, labels, count, sum) VALUES (:name, :labels, :count, :sum)
ON CONFLICT (name, labels) DO UPDATE SET count = count + excluded.count, sum = sum + excluded.sum;

-- name: metrics
SELECT name, labels, count, sum FROM concierge_metrics ORDER BY name, labels;

-- name: exports_by_state
SELECT state, count(*) FROM concierge_exports GROUP BY state;

-- name: oldest_queued
SELECT min(max(coalesce(send_at, 0), updated_at)) FROM concierge_messages
WHERE state = 'queued' AND attempt = 0 AND coalesce(send_at, 0) <= :now;

-- name: exports_failed
SELECT count(*) FROM concierge_exports WHERE state = 'failed' AND ended_at > :now - :since;

-- name: alarms
SELECT name, raised_at, detail FROM concierge_alarms ORDER BY name;

-- name: raise_alarm
INSERT INTO concierge_alarms (name, raised_at, detail) VALUES (:name, :now, :detail) ON CONFLICT (name) DO NOTHING;

-- name: resolve_alarm
DELETE FROM concierge_alarms WHERE name = :name;
