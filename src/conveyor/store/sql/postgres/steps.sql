-- name: read_steps
SELECT kind, name, attempt, began_at, ended_at, until, value FROM steps WHERE id = :id
ORDER BY began_at, coalesce(ended_at, until), name;

-- name: read_events
SELECT name, payload, sent_at FROM job_events WHERE id = :id ORDER BY sent_at, name;

-- name: hold_lease
-- The fence: another claim of the message has another owner or a higher `claims`.
SELECT 1 FROM leased WHERE owner = :owner AND seq = :seq AND claims = :claims FOR SHARE;

-- name: put_step
-- Fenced as `hold_lease` is.
INSERT INTO steps (id, kind, name, attempt, began_at, ended_at, until, value)
SELECT :id::bytea, :kind::text, :name::text, :attempt::integer, :began_at::bigint, :ended_at::bigint, :until::bigint, :value::bytea
FROM (SELECT 1 FROM leased WHERE owner = :owner AND seq = :seq AND claims = :claims FOR SHARE) l WHERE true
ON CONFLICT (id, kind, name) DO UPDATE SET attempt = excluded.attempt, ended_at = excluded.ended_at,
  until = excluded.until, value = excluded.value;

-- name: keep_job
-- A row for the job of a step or an event, so that it is swept with them; one that is there is kept as long as that.
INSERT INTO jobs AS j (id, name, queue, state, enqueued_at, started_at, attempts, worker, expires_at)
VALUES (:id, :name, :queue, 'running', :enqueued_at, 0, :attempts, '', :expires_at)
ON CONFLICT (id) DO UPDATE SET expires_at = greatest(j.expires_at, excluded.expires_at);

-- name: keep_parked_job
-- It sleeps, or waits, until then: its retention begins there, it has begun in time, and its record outlives it.
UPDATE jobs SET expires_at = greatest(expires_at, :expires_at) WHERE id = (SELECT id FROM messages WHERE seq = :seq);

-- name: park_message
UPDATE messages SET first_ready_at = :ready_at, expires_at = NULL WHERE seq = :seq;

-- name: read_event
SELECT name, payload, sent_at FROM job_events WHERE id = :id AND name = :name;

-- name: count_events
SELECT count(*) FROM job_events WHERE id = :id;

-- name: put_event
INSERT INTO job_events (id, name, payload, sent_at) VALUES (:id, :name, :payload, :now)
ON CONFLICT (id, name) DO NOTHING;

-- name: is_awaited
-- Whether a job waits for an event, and has not given up.
SELECT 1 FROM steps WHERE id = :id AND kind = 'wait' AND name = :name AND ended_at IS NULL;

-- name: restart_waits
-- A job that is sent again waits anew for events that have not come.
DELETE FROM steps WHERE kind = 'wait' AND id = (SELECT id FROM messages WHERE seq = :seq);

-- name: take_ready
-- READY, however blocked or suspected -> about to be put elsewhere.
DELETE FROM ready
WHERE lane = :lane AND shelf IN (0, 1, 2) AND priority = :priority AND ready_at = :ready_at AND seq = :seq
RETURNING shelf, claims, releases, crashes;

-- name: has_event
-- Whether it was sent to the job of a message.
SELECT 1 FROM messages m JOIN job_events e ON e.id = m.id
WHERE m.seq = :seq AND e.name = :name;

-- name: sweep_steps
DELETE FROM steps WHERE id = ANY (:ids::bytea[]);

-- name: sweep_events
DELETE FROM job_events WHERE id = ANY (:ids::bytea[]);
