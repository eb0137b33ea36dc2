-- name: read_heading
SELECT s.secret, s.catalog_version, (SELECT last_value FROM message_seq), (SELECT last_value FROM lane_seq),
       (SELECT last_value FROM owner_seq),
       (SELECT coalesce(sum(messages), 0)::bigint FROM counters WHERE lane IN (SELECT lane FROM queues))
FROM store s;

-- name: export_queues
SELECT name, lane, settings, consumer, declared, paused::integer AS paused, throttled_until, levels,
       holds_dead::integer AS holds_dead, rests_keys::integer AS rests_keys, version, created_at, modified_at,
       first_name, former
FROM queues ORDER BY name;

-- name: export_messages
-- Not those that were acked in a transaction of a user's, whose ack is not done to its end yet.
SELECT seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key, headers, expires_at,
       max_retries, dedupe, cost, claims_before
FROM messages WHERE lane IN (SELECT lane FROM queues) AND seq NOT IN (SELECT seq FROM leased WHERE owner = -1) ORDER BY seq;

-- name: export_ready
SELECT lane, shelf, priority, ready_at, seq, claims, releases, crashes
FROM ready WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, shelf, priority, ready_at, seq;

-- name: export_leased
SELECT owner, seq, lane, claims, releases, crashes, suspect::integer AS suspect, size, lease_until, lease_most
FROM leased WHERE lane IN (SELECT lane FROM queues) AND owner <> -1 ORDER BY owner, seq;

-- name: export_owners
SELECT owner, info, lease_until
FROM owners ORDER BY owner;

-- name: export_slots
SELECT lane, owner, held
FROM slots WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, owner;

-- name: export_keyed
SELECT lane, key, seq, place, priority, ready_at
FROM keyed WHERE lane IN (SELECT lane FROM queues) AND seq NOT IN (SELECT seq FROM leased WHERE owner = -1) ORDER BY lane, key, seq;

-- name: export_rates
SELECT queue, key, entries, ends_at, opens_at
FROM rates ORDER BY queue, key;

-- name: export_ticks
SELECT queue, tick, messages
FROM ticks ORDER BY queue;

-- name: export_turns
SELECT lane, priority, turn, key, remains
FROM turns WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, priority, turn;

-- name: export_called
-- Once: elsewhere they are unique.
SELECT DISTINCT lane, due_at, key
FROM called WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, due_at, key;

-- name: export_dedupe
-- On SQLite the key of a message that is final has seq 0.
SELECT lane, key, CASE WHEN EXISTS (SELECT 1 FROM messages m WHERE m.seq = d.seq AND m.id = d.id AND m.lane = d.lane)
       THEN d.seq ELSE 0 END AS seq, id, until
FROM dedupe d WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, key;

-- name: export_dead_letters
SELECT lane, seq, origin_queue, reason, last_error, dead_at, max_retries
FROM dead_letters WHERE lane IN (SELECT lane FROM queues) ORDER BY lane, seq;

-- name: export_schedules
SELECT name, draft, version, next_tick, paused::integer AS paused
FROM schedules ORDER BY name;

-- name: export_runs
SELECT schedule, tick, trigger, status, correlation_id, message_id, fired_at, started_at, finished_at, error
FROM runs ORDER BY schedule, tick;

-- name: export_alarms
SELECT name, queue, message_id, due_at, set_at, failed_at, error
FROM alarms ORDER BY name;

-- name: export_deliveries
SELECT id, endpoint, queue, event, state, message_id, created_at, modified_at, body
FROM deliveries ORDER BY id;

-- name: export_kv
SELECT namespace, key, value, metadata, expires_at
FROM kv ORDER BY namespace, key;

-- name: export_documents
SELECT kind, name, body, version, created_at, modified_at
FROM documents ORDER BY kind, name;

-- name: export_jobs
SELECT id, name, queue, state, enqueued_at, started_at, ended_at, attempts, worker, result, result_until, error, fingerprint,
  next_at, cancel_at, expires_at
FROM jobs ORDER BY id;

-- name: export_attempts
SELECT id, started_at, attempt, state, ended_at, worker, error, fingerprint, next_at
FROM attempts ORDER BY id, started_at, attempt;

-- name: export_steps
SELECT id, kind, name, attempt, began_at, ended_at, until, value
FROM steps ORDER BY id, kind, name;

-- name: export_job_events
SELECT id, name, payload, sent_at
FROM job_events ORDER BY id, name;

-- name: export_reports
SELECT id, last_number, log_lines, log_bytes, output_attempt, output_bytes, progress_number, progress_at, progress_attempt,
  millionths, note
FROM reports ORDER BY id;

-- name: export_report_lines
SELECT id, number, kind, at, attempt, level, is_text::integer AS is_text, body
FROM report_lines ORDER BY id, number;

-- name: export_groups
SELECT id, name, state, on_failure, has_edges::integer, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms, deadline_at,
  ended_at, expires_at, on_complete
FROM groups ORDER BY id;

-- name: export_group_nodes
SELECT id, group_id, place, queue, job, state, waits_for, takes, ended_at
FROM group_nodes ORDER BY id;

-- name: export_group_edges
SELECT group_id, parent, child
FROM group_edges ORDER BY group_id, parent, child;

-- name: export_group_drafts
SELECT group_id, place, draft
FROM group_drafts ORDER BY group_id, place;

-- name: write_heading
-- The version is past both, so that nobody trusts what was read here before.
UPDATE store SET secret = :secret, catalog_version = greatest(catalog_version, :catalog_version) + 1;

-- name: write_numbers
SELECT setval('message_seq', greatest(:last_seq::bigint, 1)), setval('lane_seq', greatest(:last_lane::bigint, 1)),
       setval('owner_seq', greatest(:last_owner::bigint, 1));

-- name: count_anew
INSERT INTO counters (lane, messages, bytes)
SELECT lane, count(*), sum(octet_length(body)) FROM messages GROUP BY lane;

-- name: holds_anything
SELECT EXISTS (SELECT 1 FROM queues) OR EXISTS (SELECT 1 FROM messages) OR EXISTS (SELECT 1 FROM schedules)
  OR EXISTS (SELECT 1 FROM runs) OR EXISTS (SELECT 1 FROM kv)
  OR EXISTS (SELECT 1 FROM documents) OR EXISTS (SELECT 1 FROM jobs) OR EXISTS (SELECT 1 FROM outbox)
  OR EXISTS (SELECT 1 FROM alarms) OR EXISTS (SELECT 1 FROM deliveries) OR EXISTS (SELECT 1 FROM groups);

-- name: empty_store
TRUNCATE queues, counters, messages, ready, leased, owners, slots, keyed, rates, ticks, turns, called, dedupe, dead_letters, purged, receipts,
  schedules, runs, kv, documents, jobs, attempts, steps, job_events, reports, report_lines, notices, alarms, deliveries,
  groups, group_nodes, group_edges, group_drafts, outbox, acks;

-- name: count_living_owners
-- By the server's own clock, whatever a test has bound.
SELECT count(*) FROM owners WHERE lease_until > (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- name: read_identity
SELECT id FROM store;

-- name: begin_snapshot
-- Of one moment, however long it takes.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL search_path TO :schema;

-- name: begin_alone
-- Nobody else writes until COMMIT; a transaction of somebody's that does not end is not waited for.
BEGIN;
SET LOCAL lock_timeout TO '30s';

-- name: hold_outbox
-- Waits for users' transactions that have sent, and those that want to send wait.
LOCK TABLE outbox, acks IN SHARE ROW EXCLUSIVE MODE;

-- name: may_clear
SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AND to_regclass('outbox') IS NOT NULL
  AND to_regclass('store') IS NOT NULL;

-- name: put_note
INSERT INTO migrations (number, name, checksum) VALUES (:number, :name, :peer);

-- name: drop_note
DELETE FROM migrations WHERE number = :number;

-- name: close_store
-- Every transaction that writes leaves a receipt, but for sends and acks in the user's own, which have tables of their own,
-- and for claims and acks of the plain path, which touch leases.
CREATE FUNCTION refuse_writes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE note text;
BEGIN
  EXECUTE format('SELECT name FROM %I.migrations WHERE number = 1000000', TG_TABLE_SCHEMA) INTO note;
  RAISE EXCEPTION USING ERRCODE = 'CV001', MESSAGE = note;
END $$;
CREATE TRIGGER closed BEFORE INSERT OR UPDATE ON receipts FOR EACH STATEMENT EXECUTE FUNCTION refuse_writes();
CREATE TRIGGER closed BEFORE INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION refuse_writes();
CREATE TRIGGER closed BEFORE INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse_writes();
CREATE TRIGGER closed BEFORE INSERT ON acks FOR EACH STATEMENT EXECUTE FUNCTION refuse_writes();
CREATE TRIGGER closed BEFORE INSERT OR DELETE ON leased FOR EACH STATEMENT EXECUTE FUNCTION refuse_writes();

-- name: reopen_store
DROP FUNCTION IF EXISTS refuse_writes() CASCADE;

-- name: set_aside
-- A statement or two for each of our tables, sequences and functions; what else lies in the schema is its owner's.
SELECT string_agg(how, '; ') FROM (
  SELECT format('ALTER TABLE %I SET SCHEMA %I', relname, :kept::text) AS how FROM pg_class
  WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind IN ('r', 'S')
    AND relname = ANY (:names::text[])
  UNION ALL
  SELECT format('ALTER FUNCTION %1$I(%2$s) SET SCHEMA %3$I; ALTER FUNCTION %3$I.%1$I(%2$s) SET search_path TO %3$I',
                proname, pg_get_function_identity_arguments(oid), :kept::text)
  FROM pg_proc
  WHERE pronamespace = to_regnamespace(quote_ident(current_schema())) AND proname = ANY (:names::text[])
) moves
