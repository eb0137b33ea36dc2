-- generation's own tables, in its own file. Times are milliseconds since the epoch.

-- name: schema
CREATE TABLE IF NOT EXISTS generations (
  number       INTEGER PRIMARY KEY,
  id           TEXT    NOT NULL UNIQUE,
  user_id      TEXT    NOT NULL,
  idempotency  TEXT,
  prompt       TEXT    NOT NULL,
  parameters   TEXT    NOT NULL,
  provider     TEXT    NOT NULL,
  model        TEXT    NOT NULL,
  priority     INTEGER NOT NULL,
  state        TEXT    NOT NULL DEFAULT 'queued'
    CHECK (state IN ('queued', 'processing', 'retrying', 'completed', 'failed', 'cancelled')),
  progress     REAL    NOT NULL DEFAULT 0,
  note         TEXT    NOT NULL DEFAULT '',
  job_id       TEXT    NOT NULL DEFAULT '',
  attempt      INTEGER NOT NULL DEFAULT 0,
  operation    TEXT    NOT NULL DEFAULT '',
  result       TEXT,
  error        TEXT,
  seq          INTEGER NOT NULL DEFAULT 1,
  created_at   INTEGER NOT NULL,
  started_at   INTEGER,
  submitted_at INTEGER,
  ended_at     INTEGER,
  updated_at   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS generations_idempotency ON generations (user_id, idempotency)
  WHERE idempotency IS NOT NULL;
CREATE INDEX IF NOT EXISTS generations_user ON generations (user_id, number);
CREATE INDEX IF NOT EXISTS generations_waiting ON generations (state, priority, number);
CREATE INDEX IF NOT EXISTS generations_started ON generations (started_at, created_at) WHERE started_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS generations_ended ON generations (ended_at, state, started_at) WHERE ended_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS submissions (
  generation TEXT    NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
  number     INTEGER NOT NULL,
  state      TEXT    NOT NULL CHECK (state IN ('begun', 'taken', 'refused', 'failed')),
  operation  TEXT    NOT NULL DEFAULT '',
  begun_at   INTEGER NOT NULL,
  taken_at   INTEGER,
  PRIMARY KEY (generation, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turns (
  generation TEXT    PRIMARY KEY REFERENCES generations (id) ON DELETE CASCADE,
  run        INTEGER NOT NULL,
  turn       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  id         TEXT    PRIMARY KEY,
  generation TEXT    NOT NULL REFERENCES generations (id) ON DELETE CASCADE,
  seq        INTEGER NOT NULL,
  event      TEXT    NOT NULL,
  body       TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  handed_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS events_of ON events (generation, seq);
CREATE INDEX IF NOT EXISTS events_unhanded ON events (created_at) WHERE handed_at IS NULL;
CREATE TABLE IF NOT EXISTS tallies (
  name   TEXT    NOT NULL,
  minute INTEGER NOT NULL,
  count  INTEGER NOT NULL,
  PRIMARY KEY (name, minute)
) STRICT, WITHOUT ROWID;

-- name: add_generation
INSERT INTO generations (id, user_id, idempotency, prompt, parameters, provider, model, priority, created_at, updated_at)
VALUES (:id, :user_id, :idempotency, :prompt, :parameters, :provider, :model, :priority, :now, :now);

-- name: find_generation
SELECT id, user_id, prompt, parameters, provider, model, priority, state, progress, note, job_id, attempt, operation,
  result, error, seq, created_at, started_at, submitted_at, ended_at, updated_at
FROM generations WHERE id = :id;

-- name: find_by_idempotency
SELECT id FROM generations WHERE user_id = :user_id AND idempotency = :idempotency;

-- name: list_generations
SELECT id, user_id, prompt, parameters, provider, model, priority, state, progress, note, job_id, attempt, operation,
  result, error, seq, created_at, started_at, submitted_at, ended_at, updated_at
FROM generations
WHERE (:state IS NULL OR state = :state)
  AND number < coalesce((SELECT number FROM generations WHERE id = :before), CASE WHEN :before IS NULL THEN 9e18 END)
ORDER BY number DESC LIMIT :limit;

-- name: list_of_user
SELECT id, user_id, prompt, parameters, provider, model, priority, state, progress, note, job_id, attempt, operation,
  result, error, seq, created_at, started_at, submitted_at, ended_at, updated_at
FROM generations
WHERE user_id = :user_id AND (:state IS NULL OR state = :state)
  AND number < coalesce((SELECT number FROM generations WHERE id = :before), CASE WHEN :before IS NULL THEN 9e18 END)
ORDER BY number DESC LIMIT :limit;

-- name: ahead_of
-- How many of those that wait go before this one.
SELECT count(*) FROM generations other JOIN generations this ON this.id = :id
WHERE other.state IN ('queued', 'retrying') AND this.state IN ('queued', 'retrying')
  AND (other.priority > this.priority OR (other.priority = this.priority AND other.number < this.number));

-- name: line
SELECT id FROM generations WHERE state IN ('queued', 'retrying') ORDER BY priority DESC, number LIMIT :limit;

-- name: set_job
UPDATE generations SET job_id = :job_id WHERE id = :id;

-- name: unsent
SELECT id FROM generations WHERE state = 'queued' AND job_id = '' AND created_at <= :before ORDER BY number LIMIT 200;

-- name: read_turn
SELECT run, turn FROM turns WHERE generation = :id;

-- name: take_turn
INSERT INTO turns (generation, run, turn) VALUES (:id, :run, :turn)
ON CONFLICT (generation) DO UPDATE SET run = excluded.run, turn = excluded.turn;

-- name: start
UPDATE generations SET state = 'processing', attempt = :attempt, started_at = coalesce(started_at, :now),
  error = CASE WHEN :attempt > attempt THEN NULL ELSE error END, ended_at = NULL, seq = seq + 1, updated_at = :now
WHERE id = :id;

-- name: begin_again
-- Its job was tried again by hand: nothing of the end that it had is left.
UPDATE generations SET error = NULL, progress = 0, note = '' WHERE id = :id;

-- name: give_up_doubt
-- Somebody wants it in spite of the order in doubt: the next try submits anew.
UPDATE submissions SET state = 'failed' WHERE generation = :id AND state = 'begun';

-- name: move
UPDATE generations SET progress = max(progress, :progress), note = :note, seq = seq + 1, updated_at = :now
WHERE id = :id AND state = 'processing' AND (note <> :note OR progress < :progress);

-- name: retry
UPDATE generations SET state = 'retrying', error = :error, note = '', progress = 0, seq = seq + 1, updated_at = :now
WHERE id = :id AND state = 'processing' AND :turn = (SELECT turn FROM turns WHERE generation = :id);

-- name: end
UPDATE generations SET state = :state, result = :result, error = :error, note = '', ended_at = :now, updated_at = :now,
  progress = CASE WHEN :state = 'completed' THEN 1 ELSE progress END, seq = seq + 1
WHERE id = :id AND state IN ('queued', 'processing', 'retrying')
  AND (:turn IS NULL OR :turn = coalesce((SELECT turn FROM turns WHERE generation = :id), 0));

-- name: last_submission
SELECT number, state, operation, taken_at FROM submissions WHERE generation = :id ORDER BY number DESC LIMIT 1;

-- name: begin_submission
-- Whoever inserts the row may submit; nobody else may, ever. What has ended is not submitted any more.
INSERT INTO submissions (generation, number, state, begun_at)
SELECT id, :number, 'begun', :now FROM generations WHERE id = :id AND state IN ('queued', 'processing', 'retrying')
ON CONFLICT DO NOTHING;

-- name: take_submission
UPDATE submissions SET state = 'taken', operation = :operation, taken_at = :now
WHERE generation = :id AND number = :number AND state = 'begun';

-- name: close_submission
UPDATE submissions SET state = :state WHERE generation = :id AND number = :number AND state IN ('begun', 'taken');

-- name: set_operation
UPDATE generations SET operation = :operation, submitted_at = :now, seq = seq + 1, updated_at = :now WHERE id = :id;

-- name: add_event
INSERT INTO events (id, generation, seq, event, body, created_at)
SELECT :event_id, :id, coalesce(max(seq), 0) + 1, :event, :body, :now FROM events WHERE generation = :id;

-- name: open
-- Those that have a job and of which nothing was heard for a while, by number.
SELECT g.number, g.id, g.user_id, g.job_id, coalesce(t.turn, 0)
FROM generations g LEFT JOIN turns t ON t.generation = g.id
WHERE g.state IN ('queued', 'processing', 'retrying') AND g.job_id <> '' AND g.updated_at <= :before AND g.number > :after
ORDER BY g.number LIMIT :limit;

-- name: has_event
SELECT 1 FROM events WHERE generation = :id AND event = :event LIMIT 1;

-- name: unhanded_of
SELECT id, event, body FROM events WHERE generation = :id AND handed_at IS NULL ORDER BY seq;

-- name: unhanded
SELECT DISTINCT generation FROM events WHERE handed_at IS NULL AND created_at <= :before LIMIT 200;

-- name: hand_event
UPDATE events SET handed_at = :now WHERE id = :event_id;

-- name: events_of
SELECT id, seq, event, body, created_at, handed_at FROM events WHERE generation = :id ORDER BY seq;

-- name: over
-- Those that ended long ago, and of which Next.js has been told all: the oldest first.
SELECT id, result FROM generations
WHERE ended_at <= :before AND state IN ('completed', 'failed', 'cancelled')
  AND NOT EXISTS (SELECT 1 FROM events WHERE generation = generations.id AND handed_at IS NULL)
ORDER BY ended_at LIMIT :limit;

-- name: forget
-- Its submissions and events go with it.
DELETE FROM generations WHERE id = :id AND ended_at <= :before;

-- name: tally
INSERT INTO tallies (name, minute, count) VALUES (:name, :now / 60000, :count)
ON CONFLICT (name, minute) DO UPDATE SET count = count + excluded.count;

-- name: tallied
-- In all, and in the last full minute.
SELECT name, sum(count), sum(CASE WHEN minute = :now / 60000 - 1 THEN count ELSE 0 END) FROM tallies GROUP BY name;

-- name: fold_tallies
-- What is older than an hour is kept as one sum, under the minute 0.
INSERT INTO tallies (name, minute, count)
SELECT name, 0, sum(count) FROM tallies WHERE minute > 0 AND minute < :now / 60000 - 60 GROUP BY name HAVING true
ON CONFLICT (name, minute) DO UPDATE SET count = count + excluded.count;

-- name: forget_folded
DELETE FROM tallies WHERE minute > 0 AND minute < :now / 60000 - 60;

-- name: states
SELECT state, count(*) FROM generations GROUP BY state;

-- name: waits
-- Of those that started within the last hour: how long they waited; of those that ended in it: how long they took.
SELECT
  (SELECT avg(started_at - created_at) FROM generations WHERE started_at > :since),
  (SELECT avg(ended_at - started_at) FROM generations WHERE ended_at > :since AND +state = 'completed');

-- name: ended_since
-- The `+` keeps SQLite from walking over all by state.
SELECT state, count(*) FROM generations WHERE ended_at > :since GROUP BY +state;
