-- name: read_reports
SELECT id, last_number, log_lines, log_bytes, output_attempt, output_bytes, progress_number, progress_at, progress_attempt,
  millionths, note
FROM reports WHERE id = ANY (:ids::bytea[]);

-- name: put_report
INSERT INTO reports (id, last_number, log_lines, log_bytes, output_attempt, output_bytes, progress_number, progress_at,
  progress_attempt, millionths, note)
VALUES (:id, :last_number, :log_lines, :log_bytes, :output_attempt, :output_bytes, :progress_number, :progress_at,
  :progress_attempt, :millionths, :note)
ON CONFLICT (id) DO UPDATE SET last_number = excluded.last_number, log_lines = excluded.log_lines,
  log_bytes = excluded.log_bytes, output_attempt = excluded.output_attempt, output_bytes = excluded.output_bytes,
  progress_number = excluded.progress_number, progress_at = excluded.progress_at,
  progress_attempt = excluded.progress_attempt, millionths = excluded.millionths, note = excluded.note;

-- name: put_report_line
INSERT INTO report_lines (id, number, kind, at, attempt, level, is_text, body)
VALUES (:id, :number, :kind, :at, :attempt, :level, :is_text, :body);

-- name: drop_output
DELETE FROM report_lines WHERE id = :id AND kind = 'output';

-- name: oldest_log_lines
SELECT number, length(body) FROM report_lines WHERE id = :id AND kind = 'log' ORDER BY number LIMIT :limit;

-- name: drop_log_lines
DELETE FROM report_lines WHERE id = :id AND kind = 'log' AND number <= :last;

-- name: list_report_lines
SELECT number, kind, at, attempt, level, is_text, body FROM report_lines WHERE id = :id AND number > :after
ORDER BY number LIMIT :limit;

-- name: hold_leases
-- Of those who report; whoever would end them meanwhile waits.
SELECT l.seq FROM unnest(:seqs::bigint[], :claims::integer[]) AS a (seq, claims) CROSS JOIN LATERAL (
  SELECT n.seq FROM leased n WHERE n.owner = :owner AND n.seq = a.seq AND n.claims = a.claims FOR UPDATE OFFSET 0) l;

-- name: beat_many
-- As `beat_job`, of attempts that report for the first time.
INSERT INTO jobs AS j (id, name, queue, state, enqueued_at, started_at, attempts, worker, expires_at)
SELECT u.id, u.name, u.queue, 'running', u.enqueued_at, u.started_at, u.attempts, u.worker, u.expires_at
FROM unnest(:ids::bytea[], :names::text[], :queues::text[], :enqueued::bigint[], :started::bigint[], :tries::integer[],
  :workers::text[], :expire::bigint[]) AS u (id, name, queue, enqueued_at, started_at, attempts, worker, expires_at)
ON CONFLICT (id) DO UPDATE SET state = 'running', started_at = excluded.started_at, ended_at = NULL, next_at = NULL,
  attempts = excluded.attempts, worker = excluded.worker, expires_at = greatest(j.expires_at, excluded.expires_at)
WHERE excluded.started_at > coalesce(j.ended_at, -1);

-- name: sweep_report_lines
DELETE FROM report_lines WHERE (id, number) IN (
  SELECT l.id, l.number FROM unnest(:ids::bytea[]) AS j (id) JOIN report_lines l ON l.id = j.id LIMIT :limit);

-- name: sweep_reports
DELETE FROM reports WHERE id = ANY (:ids::bytea[]);
