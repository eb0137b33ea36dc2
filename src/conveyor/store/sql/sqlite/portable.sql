-- name: read_heading
SELECT s.secret, s.catalog_version, s.last_seq, s.last_lane, s.last_owner,
       (SELECT coalesce(sum(messages), 0) FROM counters WHERE lane IN (SELECT lane FROM queues))
FROM store s;

-- name: export_queues
SELECT name, lane, settings, consumer, declared, paused, throttled_until, levels, holds_dead, rests_keys, version,
       created_at, modified_at, first_name, former
FROM queues ORDER BY name;

-- name: load_queues
INSERT INTO queues (name, lane, settings, consumer, declared, paused, throttled_until, levels, holds_dead, rests_keys,
       version, created_at, modified_at, first_name, former)
VALUES (:name, :lane, :settings, :consumer, :declared, :paused, :throttled_until, :levels, :holds_dead, :rests_keys,
       :version, :created_at, :modified_at, :first_name, :former);

-- name: export_messages
SELECT seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key, headers, expires_at,
       max_retries, dedupe, cost, claims_before
FROM messages WHERE lane IN (SELECT lane FROM queues) ORDER BY seq;

-- name: load_messages
INSERT INTO messages (seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key, headers,
       expires_at, max_retries, dedupe, cost, claims_before)
VALUES (:seq, :lane, :id, :body, :content_type, :sent_at, :ready_at, :first_ready_at, :priority, :key, :headers,
       :expires_at, :max_retries, :dedupe, :cost, :claims_before);

-- name: export_ready
SELECT lane, shelf, priority, ready_at, seq, claims, releases, crashes
FROM ready WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, shelf, priority, ready_at, seq;

-- name: load_ready
INSERT INTO ready (lane, shelf, priority, ready_at, seq, claims, releases, crashes)
VALUES (:lane, :shelf, :priority, :ready_at, :seq, :claims, :releases, :crashes);

-- name: export_leased
SELECT owner, seq, lane, claims, releases, crashes, suspect, size, lease_until, lease_most
FROM leased WHERE lane IN (SELECT lane FROM queues) ORDER BY owner, seq;

-- name: load_leased
INSERT INTO leased (owner, seq, lane, claims, releases, crashes, suspect, size, lease_until, lease_most)
VALUES (:owner, :seq, :lane, :claims, :releases, :crashes, :suspect, :size, :lease_until, :lease_most);

-- name: export_owners
SELECT owner, info, lease_until
FROM owners ORDER BY owner;

-- name: load_owners
INSERT INTO owners (owner, info, lease_until)
VALUES (:owner, :info, :lease_until);

-- name: export_slots
SELECT lane, owner, held
FROM slots WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, owner;

-- name: load_slots
INSERT INTO slots (lane, owner, held)
VALUES (:lane, :owner, :held);

-- name: export_keyed
SELECT lane, key, seq, place, priority, ready_at
FROM keyed WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, key, seq;

-- name: load_keyed
INSERT INTO keyed (lane, key, seq, place, priority, ready_at)
VALUES (:lane, :key, :seq, :place, :priority, :ready_at);

-- name: export_rates
SELECT queue, key, entries, ends_at, opens_at
FROM rates ORDER BY queue, key;

-- name: load_rates
INSERT INTO rates (queue, key, entries, ends_at, opens_at)
VALUES (:queue, :key, :entries, :ends_at, :opens_at);

-- name: export_ticks
SELECT queue, tick, messages
FROM ticks ORDER BY queue;

-- name: load_ticks
INSERT INTO ticks (queue, tick, messages)
VALUES (:queue, :tick, :messages);

-- name: export_turns
SELECT lane, priority, turn, key, remains
FROM turns WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, priority, turn;

-- name: load_turns
INSERT INTO turns (lane, priority, turn, key, remains)
VALUES (:lane, :priority, :turn, :key, :remains);

-- name: export_called
SELECT lane, due_at, key
FROM called WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, due_at, key;

-- name: load_called
INSERT INTO called (lane, due_at, key)
VALUES (:lane, :due_at, :key);

-- name: export_dedupe
SELECT lane, key, CASE WHEN EXISTS (SELECT 1 FROM messages m WHERE m.seq = d.seq AND m.id = d.id AND m.lane = d.lane)
       THEN d.seq ELSE 0 END AS seq, id, until
FROM dedupe d WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, key;

-- name: load_dedupe
INSERT INTO dedupe (lane, key, seq, id, until)
VALUES (:lane, :key, :seq, :id, :until);

-- name: export_dead_letters
SELECT lane, seq, origin_queue, reason, last_error, dead_at, max_retries
FROM dead_letters WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, seq;

-- name: load_dead_letters
INSERT INTO dead_letters (lane, seq, origin_queue, reason, last_error, dead_at, max_retries)
VALUES (:lane, :seq, :origin_queue, :reason, :last_error, :dead_at, :max_retries);

-- name: export_schedules
SELECT name, draft, version, next_tick, paused
FROM schedules ORDER BY name;

-- name: load_schedules
INSERT INTO schedules (name, draft, version, next_tick, paused)
VALUES (:name, :draft, :version, :next_tick, :paused);

-- name: export_runs
SELECT schedule, tick, trigger, status, correlation_id, message_id, fired_at, started_at, finished_at, error
FROM runs ORDER BY schedule, tick;

-- name: load_runs
INSERT INTO runs (schedule, tick, trigger, status, correlation_id, message_id, fired_at, started_at, finished_at,
       error)
VALUES (:schedule, :tick, :trigger, :status, :correlation_id, :message_id, :fired_at, :started_at, :finished_at,
       :error);

-- name: export_alarms
SELECT name, queue, message_id, due_at, set_at, failed_at, error
FROM alarms ORDER BY name;

-- name: load_alarms
INSERT INTO alarms (name, queue, message_id, due_at, set_at, failed_at, error)
VALUES (:name, :queue, :message_id, :due_at, :set_at, :failed_at, :error);

-- name: export_deliveries
SELECT id, endpoint, queue, event, state, message_id, created_at, modified_at, body
FROM deliveries ORDER BY id;

-- name: load_deliveries
INSERT INTO deliveries (id, endpoint, queue, event, state, message_id, created_at, modified_at, body)
VALUES (:id, :endpoint, :queue, :event, :state, :message_id, :created_at, :modified_at, :body);

-- name: export_kv
SELECT namespace, CAST(key AS BLOB) AS key, value, metadata, expires_at
FROM kv_entries ORDER BY kv_entries.namespace, kv_entries.key;

-- name: load_kv
INSERT INTO kv_entries (namespace, key, value, metadata, expires_at)
VALUES (:namespace, CAST(:key AS TEXT), :value, :metadata, :expires_at);

-- name: export_documents
SELECT kind, name, body, version, created_at, modified_at
FROM documents ORDER BY kind, name;

-- name: load_documents
INSERT INTO documents (kind, name, body, version, created_at, modified_at)
VALUES (:kind, :name, :body, :version, :created_at, :modified_at);

-- name: export_jobs
SELECT id, name, queue, state, enqueued_at, started_at, ended_at, attempts, worker, result, result_until, error, fingerprint,
  next_at, cancel_at, expires_at
FROM jobs ORDER BY id;

-- name: load_jobs
INSERT INTO jobs (id, name, queue, state, enqueued_at, started_at, ended_at, attempts, worker, result, result_until, error, fingerprint,
  next_at, cancel_at, expires_at)
VALUES (:id, :name, :queue, :state, :enqueued_at, :started_at, :ended_at, :attempts, :worker, :result, :result_until, :error, :fingerprint,
  :next_at, :cancel_at, :expires_at);

-- name: export_attempts
SELECT id, started_at, attempt, state, ended_at, worker, error, fingerprint, next_at
FROM attempts ORDER BY id, started_at, attempt;

-- name: load_attempts
INSERT INTO attempts (id, started_at, attempt, state, ended_at, worker, error, fingerprint, next_at)
VALUES (:id, :started_at, :attempt, :state, :ended_at, :worker, :error, :fingerprint, :next_at);

-- name: export_steps
SELECT id, kind, name, attempt, began_at, ended_at, until, value
FROM steps ORDER BY id, kind, name;

-- name: load_steps
INSERT INTO steps (id, kind, name, attempt, began_at, ended_at, until, value)
VALUES (:id, :kind, :name, :attempt, :began_at, :ended_at, :until, :value);

-- name: export_job_events
SELECT id, name, payload, sent_at
FROM job_events ORDER BY id, name;

-- name: load_job_events
INSERT INTO job_events (id, name, payload, sent_at)
VALUES (:id, :name, :payload, :sent_at);

-- name: export_reports
SELECT id, last_number, log_lines, log_bytes, output_attempt, output_bytes, progress_number, progress_at, progress_attempt,
  millionths, note
FROM reports ORDER BY id;

-- name: load_reports
INSERT INTO reports (id, last_number, log_lines, log_bytes, output_attempt, output_bytes, progress_number, progress_at, progress_attempt,
  millionths, note)
VALUES (:id, :last_number, :log_lines, :log_bytes, :output_attempt, :output_bytes, :progress_number, :progress_at, :progress_attempt, :millionths, :note);

-- name: export_report_lines
SELECT id, number, kind, at, attempt, level, is_text, body
FROM report_lines ORDER BY id, number;

-- name: load_report_lines
INSERT INTO report_lines (id, number, kind, at, attempt, level, is_text, body)
VALUES (:id, :number, :kind, :at, :attempt, :level, :is_text, :body);

-- name: export_groups
SELECT id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms, deadline_at,
  ended_at, expires_at, on_complete
FROM groups ORDER BY id;

-- name: load_groups
INSERT INTO groups (id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms, deadline_at,
  ended_at, expires_at, on_complete)
VALUES (:id, :name, :state, :on_failure, :has_edges, :total, :unsent, :succeeded, :failed, :cancelled, :created_at,
  :deadline_ms, :deadline_at, :ended_at, :expires_at, :on_complete);

-- name: export_group_nodes
SELECT id, group_id, place, queue, job, state, waits_for, takes, ended_at
FROM group_nodes ORDER BY id;

-- name: load_group_nodes
INSERT INTO group_nodes (id, group_id, place, queue, job, state, waits_for, takes, ended_at)
VALUES (:id, :group_id, :place, :queue, :job, :state, :waits_for, :takes, :ended_at);

-- name: export_group_edges
SELECT group_id, parent, child
FROM group_edges ORDER BY group_id, parent, child;

-- name: load_group_edges
INSERT INTO group_edges (group_id, parent, child)
VALUES (:group_id, :parent, :child);

-- name: export_group_drafts
SELECT group_id, place, draft
FROM group_drafts ORDER BY group_id, place;

-- name: load_group_drafts
INSERT INTO group_drafts (group_id, place, draft)
VALUES (:group_id, :place, :draft);

-- name: write_heading
-- The version is past both, so that nobody trusts what was read here before.
UPDATE store SET secret = :secret, catalog_version = max(catalog_version, :catalog_version) + 1,
  last_seq = :last_seq, last_lane = :last_lane, last_owner = :last_owner;

-- name: count_anew
-- One by one: a GROUP BY would sort all bodies, in memory.
INSERT INTO counters (lane, messages, bytes) SELECT lane, 1, length(body) FROM messages WHERE true
ON CONFLICT (lane) DO UPDATE SET messages = messages + 1, bytes = bytes + excluded.bytes;

-- name: mark_dedupe_anew
UPDATE queues SET uses_dedupe = 1 WHERE lane IN (SELECT lane FROM dedupe);

-- name: holds_anything
SELECT EXISTS (SELECT 1 FROM queues) OR EXISTS (SELECT 1 FROM messages) OR EXISTS (SELECT 1 FROM schedules)
  OR EXISTS (SELECT 1 FROM runs) OR EXISTS (SELECT 1 FROM kv)
  OR EXISTS (SELECT 1 FROM documents) OR EXISTS (SELECT 1 FROM jobs) OR EXISTS (SELECT 1 FROM alarms)
  OR EXISTS (SELECT 1 FROM deliveries) OR EXISTS (SELECT 1 FROM groups);

-- name: empty_store
DELETE FROM queues;
DELETE FROM counters;
DELETE FROM messages;
DELETE FROM ready;
DELETE FROM leased;
DELETE FROM owners;
DELETE FROM slots;
DELETE FROM keyed;
DELETE FROM rates;
DELETE FROM ticks;
DELETE FROM turns;
DELETE FROM called;
DELETE FROM dedupe;
DELETE FROM dead_letters;
DELETE FROM purged;
DELETE FROM receipts;
DELETE FROM schedules;
DELETE FROM runs;
DELETE FROM kv;
DELETE FROM kv_large;
DELETE FROM documents;
DELETE FROM jobs;
DELETE FROM attempts;
DELETE FROM steps;
DELETE FROM job_events;
DELETE FROM reports;
DELETE FROM report_lines;
DELETE FROM notices;
DELETE FROM alarms;
DELETE FROM deliveries;
DELETE FROM groups;
DELETE FROM group_nodes;
DELETE FROM group_edges;
DELETE FROM group_drafts;

-- name: put_note
INSERT INTO migrations (number, name, checksum, ran_at) VALUES (:number, :name, :peer, :ran_at);

-- name: drop_note
DELETE FROM migrations WHERE number = :number;

-- name: close_store
-- Every transaction that writes leaves a receipt, but for a send in the user's own: that one inserts messages.
CREATE TRIGGER closed_receipts BEFORE INSERT ON receipts
BEGIN SELECT RAISE(ABORT, (SELECT name FROM migrations WHERE number = 1000000)); END;
CREATE TRIGGER closed_receipt_updates BEFORE UPDATE ON receipts
BEGIN SELECT RAISE(ABORT, (SELECT name FROM migrations WHERE number = 1000000)); END;
CREATE TRIGGER closed_messages BEFORE INSERT ON messages
BEGIN SELECT RAISE(ABORT, (SELECT name FROM migrations WHERE number = 1000000)); END;

-- name: reopen_store
DROP TRIGGER IF EXISTS closed_receipts;
DROP TRIGGER IF EXISTS closed_receipt_updates;
DROP TRIGGER IF EXISTS closed_messages;
