-- plotburn's own tables, in its own file. Times are milliseconds since the epoch.

-- name: schema
CREATE TABLE IF NOT EXISTS roasts (
  id         INTEGER PRIMARY KEY,
  movie_id   INTEGER NOT NULL,
  title      TEXT    NOT NULL,
  content    TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  is_active  INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS roasts_active ON roasts (movie_id) WHERE is_active = 1;
CREATE TABLE IF NOT EXISTS runs (
  run            TEXT    PRIMARY KEY,
  cause          TEXT    NOT NULL CHECK (cause IN ('manual', 'scheduled')),
  tick_at        INTEGER NOT NULL,
  started_at     INTEGER NOT NULL,
  movies_fetched INTEGER,
  sent_at        INTEGER,
  finished_at    INTEGER,
  crashed        INTEGER NOT NULL DEFAULT 0 CHECK (crashed IN (0, 1))
) STRICT;
CREATE INDEX IF NOT EXISTS runs_started ON runs (started_at);
CREATE TABLE IF NOT EXISTS run_movies (
  run      TEXT    NOT NULL REFERENCES runs (run),
  movie_id INTEGER NOT NULL,
  title    TEXT    NOT NULL,
  position INTEGER NOT NULL,
  outcome  TEXT    CHECK (outcome IN ('cached', 'generated', 'failed')),
  ended_at INTEGER,
  PRIMARY KEY (run, movie_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log_lines (
  id    INTEGER PRIMARY KEY,
  run   TEXT    NOT NULL,
  at    INTEGER NOT NULL,
  level TEXT    NOT NULL,
  line  TEXT    NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS log_lines_run ON log_lines (run, id);
CREATE INDEX IF NOT EXISTS log_lines_at ON log_lines (at);

-- name: find_roast
-- The active roast of a movie, unless it is too old. Walks roasts_active.
SELECT movie_id, title, content, created_at FROM roasts
WHERE movie_id = :movie_id AND is_active = 1 AND created_at > :oldest;

-- name: retire_old_roast
UPDATE roasts SET is_active = 0 WHERE movie_id = :movie_id AND is_active = 1 AND created_at <= :oldest;

-- name: add_roast
-- The first one in stays: roasts_active lets no second one be active.
INSERT INTO roasts (movie_id, title, content, created_at) VALUES (:movie_id, :title, :content, :created_at)
ON CONFLICT DO NOTHING;

-- name: retire_all_roasts
UPDATE roasts SET is_active = 0 WHERE is_active = 1;

-- name: begin_run
INSERT INTO runs (run, cause, tick_at, started_at) VALUES (:run, :cause, :tick_at, :now) ON CONFLICT DO NOTHING;

-- name: plan_run
UPDATE runs SET movies_fetched = :movies_fetched WHERE run = :run AND movies_fetched IS NULL AND finished_at IS NULL;

-- name: plan_movie
INSERT INTO run_movies (run, movie_id, title, position) VALUES (:run, :movie_id, :title, :position) ON CONFLICT DO NOTHING;

-- name: mark_sent
UPDATE runs SET sent_at = :now WHERE run = :run AND sent_at IS NULL;

-- name: crash_run
UPDATE runs SET crashed = 1, movies_fetched = coalesce(movies_fetched, 0), finished_at = :now
WHERE run = :run AND finished_at IS NULL;

-- name: open_movies
SELECT movie_id, title FROM run_movies WHERE run = :run AND outcome IS NULL ORDER BY position;

-- name: end_movie
-- A success may replace a failure as long as the run goes on; otherwise the first word stands.
UPDATE run_movies SET outcome = :outcome, ended_at = :now
WHERE run = :run AND movie_id = :movie_id
  AND (outcome IS NULL OR (outcome = 'failed' AND :outcome <> 'failed'))
  AND EXISTS (SELECT 1 FROM runs WHERE runs.run = run_movies.run AND finished_at IS NULL);

-- name: end_open_movies
UPDATE run_movies SET outcome = 'failed', ended_at = :now WHERE run = :run AND outcome IS NULL;

-- name: finish_run
-- The run ends with its last movie, in that movie's own transaction: two last ones stand in line for it.
UPDATE runs SET finished_at = :now
WHERE run = :run AND finished_at IS NULL AND movies_fetched IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM run_movies WHERE run_movies.run = runs.run AND outcome IS NULL);

-- name: lost_runs
-- Runs that nothing moves any more: never sent in full for too long, or sent and not ended for far too long.
SELECT run FROM runs
WHERE finished_at IS NULL AND run <> :run AND ((sent_at IS NULL AND started_at < :unsent_before) OR started_at < :before);

-- name: starting_run
-- The run whose schedule message is still at work; there is at most one.
SELECT run FROM runs WHERE finished_at IS NULL AND sent_at IS NULL AND started_at >= :unsent_before LIMIT 1;

-- name: get_run
SELECT run, cause, tick_at, started_at, movies_fetched, finished_at, crashed,
  (SELECT count(*) FROM run_movies m WHERE m.run = runs.run AND outcome = 'cached') AS cached,
  (SELECT count(*) FROM run_movies m WHERE m.run = runs.run AND outcome = 'generated') AS generated,
  (SELECT json_group_array(movie_id) FROM
    (SELECT movie_id FROM run_movies m WHERE m.run = runs.run AND outcome = 'failed' ORDER BY position)) AS failed
FROM runs WHERE run = :run;

-- name: last_run
SELECT run FROM runs ORDER BY started_at DESC, rowid DESC LIMIT 1;

-- name: finished_runs
SELECT run FROM runs WHERE finished_at IS NOT NULL ORDER BY started_at DESC, rowid DESC LIMIT :limit;

-- name: count_finished_runs
SELECT count(*) FROM runs WHERE finished_at IS NOT NULL;

-- name: run_movies
SELECT movie_id, title, outcome FROM run_movies WHERE run = :run ORDER BY position;

-- name: add_line
INSERT INTO log_lines (run, at, level, line) VALUES (:run, :now, :level, :line);

-- name: lines_of_run
SELECT id, run, at, level, line FROM log_lines WHERE run = :run ORDER BY id LIMIT :limit;

-- name: last_lines
SELECT id, run, at, level, line FROM log_lines ORDER BY id DESC LIMIT :limit;

-- name: drop_old_lines
DELETE FROM log_lines WHERE id IN (SELECT id FROM log_lines WHERE at < :before LIMIT 1000);
