-- name: dated_jobs
SELECT id, queue, state, ended_at, result_until, expires_at FROM jobs
WHERE (expires_at, id) > (:expires_at, :id) AND expires_at <= :bound ORDER BY expires_at, id LIMIT :limit;

-- name: date_jobs
UPDATE jobs j SET expires_at = n.at FROM unnest(:ends::bigint[], :ids::bytea[]) AS n (at, id) WHERE j.id = n.id;

-- name: delivering_queues
-- One probe of the index for each.
WITH RECURSIVE q (queue) AS (
  SELECT min(queue) FROM deliveries WHERE state <> 'pending'
  UNION ALL
  SELECT (SELECT min(d.queue) FROM deliveries d WHERE d.state <> 'pending' AND d.queue > q.queue) FROM q WHERE q.queue IS NOT NULL
) SELECT queue FROM q WHERE queue IS NOT NULL;

-- name: sweep_deliveries
DELETE FROM deliveries WHERE id = ANY (ARRAY(
  SELECT id FROM deliveries WHERE queue = :queue AND state <> 'pending' AND modified_at <= :before ORDER BY modified_at LIMIT :limit));

-- name: sweep_runs
-- Never the newest of a schedule; one whose message may still be there only after :long_before.
DELETE FROM runs WHERE schedule = :schedule AND tick = ANY (ARRAY(
   SELECT r.tick FROM runs r WHERE r.schedule = :schedule AND r.tick < :before
   AND (r.finished_at IS NOT NULL OR r.message_id IS NULL OR r.tick < :long_before)
   AND r.tick < (SELECT max(n.tick) FROM runs n WHERE n.schedule = :schedule) ORDER BY r.tick LIMIT :limit));

-- name: drop_records
DELETE FROM documents WHERE kind = :kind AND name <= :name;

-- name: passed_jobs
SELECT id, queue, state, ended_at, result_until FROM jobs WHERE id > :after ORDER BY id LIMIT :limit;

-- name: passed_deliveries
SELECT id, queue, state, modified_at FROM deliveries WHERE id > :after ORDER BY id LIMIT :limit;

-- name: passed_runs
SELECT schedule, tick FROM runs WHERE (schedule, tick) > (:schedule, :tick) ORDER BY schedule, tick LIMIT :limit;

-- name: aged_schedules
-- Those with a run that may be over: one probe each, in one statement.
SELECT s.name FROM schedules s WHERE EXISTS (SELECT 1 FROM runs r WHERE r.schedule = s.name AND r.tick < :before)
ORDER BY s.name;
