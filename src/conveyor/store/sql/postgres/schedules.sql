-- name: read_schedule
SELECT draft, version, next_tick, paused FROM schedules WHERE name = :name;

-- name: lock_schedule
-- One firing at a time, so that each sees the runs of the others.
SELECT 1 FROM schedules WHERE name = :name FOR UPDATE;

-- name: list_schedules
SELECT draft, version, next_tick, paused FROM schedules ORDER BY name;

-- name: insert_schedule
INSERT INTO schedules (name, draft, version, next_tick) VALUES (:name, :draft, 1, :next_tick);

-- name: redeclare_schedule
UPDATE schedules SET draft = :draft, version = version + 1, next_tick = :next_tick WHERE name = :name;

-- name: write_next_tick
UPDATE schedules SET next_tick = :next_tick WHERE name = :name;

-- name: write_schedule_paused
UPDATE schedules SET paused = :paused WHERE name = :name;

-- name: find_run
SELECT 1 FROM runs WHERE schedule = :schedule AND tick = :tick;

-- name: insert_run
INSERT INTO runs (schedule, tick, trigger, status, correlation_id, message_id, fired_at)
VALUES (:schedule, :tick, :trigger, :status, :correlation_id, :message_id, :fired_at);

-- name: unfinished_run
-- An earlier run whose message is not final: it still lies in its queue. Walks the queue, which is short, not the history.
SELECT 1 FROM (
  SELECT r.seq FROM ready r JOIN queues q ON q.lane = r.lane WHERE q.name = :queue
  UNION ALL
  SELECT l.seq FROM leased l JOIN queues q ON q.lane = l.lane WHERE q.name = :queue
) p JOIN messages m ON m.seq = p.seq JOIN runs r ON r.message_id = m.id
WHERE r.schedule = :schedule LIMIT 1;

-- name: begin_run
UPDATE runs SET status = 'running', started_at = :now, finished_at = NULL, error = NULL
WHERE schedule = :schedule AND tick = :tick;

-- name: finish_run
UPDATE runs SET status = :status, finished_at = :now, error = :error WHERE schedule = :schedule AND tick = :tick;

-- name: list_runs
SELECT r.schedule, r.tick, r.trigger, r.status, r.correlation_id, r.fired_at, r.started_at, r.finished_at, r.error,
       EXISTS (SELECT 1 FROM messages m JOIN queues q ON q.lane = m.lane
               WHERE m.id = r.message_id AND q.name = :queue)
FROM runs r WHERE r.schedule = :schedule AND r.tick < :before ORDER BY r.tick DESC LIMIT :limit;
