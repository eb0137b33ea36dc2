-- name: read_report
SELECT id, last_number, log_lines, log_bytes, output_attempt, output_bytes, progress_number, progress_at, progress_attempt,
  millionths, note
FROM reports WHERE id = :id;

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

-- name: sweep_report_lines
DELETE FROM report_lines WHERE (id, number) IN (
  SELECT l.id, l.number FROM (SELECT id FROM jobs WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit) j
  CROSS JOIN report_lines l ON l.id = j.id LIMIT :limit);

-- name: sweep_reports
DELETE FROM reports WHERE id IN (SELECT id FROM jobs WHERE expires_at <= :now ORDER BY expires_at LIMIT :limit);
