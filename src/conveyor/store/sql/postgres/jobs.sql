-- name: put_job
-- What was cancelled stays so.
INSERT INTO jobs AS j (id, name, queue, state, enqueued_at, started_at, ended_at, attempts, worker, result, result_until, error,
  fingerprint, next_at, expires_at)
VALUES (:id, :name, :queue, :state, :enqueued_at, :started_at, :ended_at, :attempts, :worker, :result, :result_until, :error,
  :fingerprint, :next_at, :expires_at)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, started_at = excluded.started_at, ended_at = excluded.ended_at,
  attempts = excluded.attempts, worker = excluded.worker, result = excluded.result, result_until = excluded.result_until,
  error = excluded.error, fingerprint = excluded.fingerprint, next_at = excluded.next_at,
  cancel_at = CASE WHEN excluded.state = 'retrying' THEN j.cancel_at END,
  expires_at = excluded.expires_at
WHERE j.state <> 'cancelled';

-- name: put_attempt
INSERT INTO attempts (id, started_at, attempt, state, ended_at, worker, error, fingerprint, next_at)
VALUES (:id, :started_at, :attempt, :state, :ended_at, :worker, :error, :fingerprint, :next_at)
ON CONFLICT (id, started_at, attempt) DO UPDATE SET state = excluded.state, ended_at = excluded.ended_at,
  worker = excluded.worker, error = excluded.error, fingerprint = excluded.fingerprint, next_at = excluded.next_at;

-- name: drop_put_off
DELETE FROM attempts WHERE id = :id AND attempt = :attempt AND state = 'scheduled';

-- name: beat_job
-- Says that an attempt runs, unless it has ended already; whether it is to end.
INSERT INTO jobs AS j (id, name, queue, state, enqueued_at, started_at, attempts, worker, expires_at)
VALUES (:id, :name, :queue, 'running', :enqueued_at, :started_at, :attempts, :worker, :expires_at)
ON CONFLICT (id) DO UPDATE SET state = 'running', started_at = excluded.started_at, ended_at = NULL, next_at = NULL,
  attempts = excluded.attempts, worker = excluded.worker, expires_at = greatest(j.expires_at, excluded.expires_at)
WHERE excluded.started_at > coalesce(j.ended_at, -1)
RETURNING cancel_at;

-- name: read_wish
SELECT cancel_at FROM jobs WHERE id = :id;

-- name: ask_job_to_end
INSERT INTO jobs AS j (id, name, queue, state, enqueued_at, started_at, attempts, worker, cancel_at, expires_at)
VALUES (:id, :name, :queue, 'running', :enqueued_at, 0, :attempts, '', :now, :expires_at)
ON CONFLICT (id) DO UPDATE SET cancel_at = coalesce(j.cancel_at, excluded.cancel_at), attempts = greatest(j.attempts, excluded.attempts);

-- name: read_jobs
SELECT id, name, queue, state, enqueued_at, started_at, ended_at, attempts, worker, result, result_until, error, fingerprint,
  next_at, cancel_at, expires_at
FROM jobs WHERE id = ANY (:ids::bytea[]);

-- name: read_cancel
-- Whether somebody wants the job of this message to end.
SELECT m.id FROM messages m JOIN jobs j ON j.id = m.id WHERE m.seq = :seq AND j.cancel_at IS NOT NULL;

-- name: read_job_messages
SELECT m.seq, m.lane, m.id, m.body, m.content_type, m.sent_at, m.ready_at,
  coalesce(r.claims - r.releases, l.claims - l.releases, 0) AS attempts, l.seq IS NOT NULL AS leased, m.priority, m.key,
  m.headers, d.origin_queue, d.reason, d.dead_at, d.last_error
FROM messages m
LEFT JOIN LATERAL (SELECT n.claims, n.releases FROM ready n WHERE n.lane = m.lane AND n.shelf IN (0, 1, 2)
  AND n.priority = m.priority AND n.ready_at = m.ready_at AND n.seq = m.seq OFFSET 0) r ON true
LEFT JOIN LATERAL (SELECT n.seq, n.claims, n.releases FROM leased n
  WHERE n.owner = ANY (ARRAY(SELECT 0 UNION ALL SELECT owner FROM owners)) AND n.seq = m.seq OFFSET 0) l ON true
LEFT JOIN dead_letters d ON d.lane = m.lane AND d.seq = m.seq
WHERE m.id = ANY (:ids::bytea[]);

-- name: read_job_id
SELECT id, headers, sent_at FROM messages WHERE seq = :seq;

-- name: list_job_messages
-- Newest first; ids grow with time.
SELECT id, headers FROM messages WHERE id < :before AND headers IS NOT NULL ORDER BY id DESC LIMIT :limit;

-- name: list_jobs
SELECT id FROM jobs
WHERE id < :before AND name = coalesce(:name::text, name) AND queue = coalesce(:queue::text, queue)
  AND (:fingerprint::text IS NULL OR fingerprint = :fingerprint)
ORDER BY id DESC LIMIT :limit;

-- name: list_attempts
SELECT attempt, state, started_at, ended_at, worker, error, fingerprint, next_at FROM attempts
WHERE id = :id ORDER BY started_at, attempt LIMIT :limit;

-- name: group_errors
SELECT fingerprint, name, max(error), count(*), max(ended_at) FROM jobs
WHERE fingerprint IS NOT NULL AND state IN ('failed', 'dead', 'retrying') AND name = coalesce(:name::text, name)
GROUP BY fingerprint, name ORDER BY count(*) DESC, fingerprint LIMIT :limit;

-- name: jobs_over
SELECT id, expires_at FROM jobs WHERE expires_at BETWEEN :since AND :now ORDER BY expires_at LIMIT :limit;

-- name: sweep_attempts
DELETE FROM attempts WHERE id = ANY (:ids::bytea[]);

-- name: sweep_jobs
-- Not one that has begun anew meanwhile.
DELETE FROM jobs WHERE id = ANY (:ids::bytea[]) AND expires_at <= :now;

-- name: read_obstacles
-- What stands in the way of one ready message, looked at no further than :limit messages ahead.
SELECT m.lane, q.throttled_until, r.shelf,
  coalesce(r.releases, l.releases, 0) - coalesce(m.claims_before, 0) AS releases,
  (SELECT coalesce(sum(s.held), 0)::bigint FROM slots s WHERE s.lane = m.lane) AS slots_held,
  (SELECT count(*) FROM keyed o WHERE o.lane = m.lane AND o.key = m.key AND o.place = 1) AS key_leased,
  (SELECT w.entries FROM rates w WHERE w.queue = q.name AND w.key = '') AS rate_entries,
  (SELECT w.entries FROM rates w WHERE w.queue = q.name AND w.key = m.key) AS key_entries,
  (SELECT w.opens_at FROM rates w WHERE w.queue = q.name AND w.key = m.key) AS key_opens_at,
  (SELECT count(*) FROM (SELECT 1 FROM ready a WHERE a.lane = m.lane AND a.shelf = 0 AND a.priority > m.priority
    AND a.ready_at <= :now LIMIT :limit::bigint) n) AS ahead_by_priority,
  (SELECT count(*) FROM (SELECT 1 FROM ready a WHERE a.lane = m.lane AND a.shelf = 0 AND a.priority = m.priority
    AND (a.ready_at, a.seq) < (m.ready_at, m.seq) LIMIT :limit::bigint) n) AS ahead_in_line
FROM messages m JOIN queues q ON q.lane = m.lane
LEFT JOIN ready r ON r.lane = m.lane AND r.shelf IN (0, 1, 2) AND r.priority = m.priority AND r.ready_at = m.ready_at AND r.seq = m.seq
LEFT JOIN LATERAL (SELECT n.releases FROM leased n
  WHERE n.owner = ANY (ARRAY(SELECT 0 UNION ALL SELECT owner FROM owners)) AND n.seq = m.seq OFFSET 0) l ON true
WHERE m.id = :id;
