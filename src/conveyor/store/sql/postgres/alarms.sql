-- name: read_alarm
-- Its message is in the lane of its queue, or somewhere else (a dead letter), or gone; READY, or else LEASED.
SELECT a.name, a.queue, a.message_id, a.due_at, a.set_at, a.failed_at, a.error,
       m.seq, m.lane, m.lane IS NOT NULL AND m.lane = q.lane, m.ready_at, r.claims - r.releases
FROM alarms a LEFT JOIN queues q ON q.name = a.queue LEFT JOIN messages m ON m.id = a.message_id
  LEFT JOIN ready r ON r.lane = m.lane AND r.shelf IN (0, 1, 2) AND r.priority = m.priority
    AND r.ready_at = m.ready_at AND r.seq = m.seq
WHERE a.name = :name;

-- name: lock_alarm
-- Whoever sets, cancels, starts or ends it does so one after the other.
SELECT 1 FROM alarms WHERE name = :name FOR UPDATE;

-- name: list_alarms
SELECT a.name, a.queue, a.message_id, a.due_at, a.set_at, a.failed_at, a.error,
       m.seq, m.lane, m.lane IS NOT NULL AND m.lane = q.lane, m.ready_at, r.claims - r.releases
FROM alarms a LEFT JOIN queues q ON q.name = a.queue LEFT JOIN messages m ON m.id = a.message_id
  LEFT JOIN ready r ON r.lane = m.lane AND r.shelf IN (0, 1, 2) AND r.priority = m.priority
    AND r.ready_at = m.ready_at AND r.seq = m.seq
WHERE a.name > :after AND (NOT :only_parked::boolean OR m.seq IS NULL OR m.lane IS DISTINCT FROM q.lane)
ORDER BY a.name LIMIT :limit;

-- name: put_alarm
INSERT INTO alarms (name, queue, message_id, due_at, set_at) VALUES (:name, :queue, :message_id, :due_at, :now)
ON CONFLICT (name) DO UPDATE SET queue = excluded.queue, message_id = excluded.message_id, due_at = excluded.due_at,
  set_at = excluded.set_at, failed_at = NULL, error = NULL;

-- name: drop_alarm
DELETE FROM alarms WHERE name = :name AND message_id = :message_id;

-- name: fail_alarm
UPDATE alarms SET failed_at = :now, error = :error WHERE name = :name AND message_id = :message_id;
