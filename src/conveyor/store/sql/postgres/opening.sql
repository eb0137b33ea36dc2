-- name: find_standby
-- One row from a server that takes no writes.
SELECT 1 WHERE pg_is_in_recovery();

-- name: bound_session
-- A client that has died in silence in the middle of a transaction gives back what it had locked, and one whose statement
-- still runs is not worked for any longer: a living one gives up before that.
SET idle_in_transaction_session_timeout TO '60s';
SET statement_timeout TO '30s';

-- name: take_time
SET LOCAL statement_timeout TO 0;

-- name: read_session
-- Not the one that the connection was told of: a pooler is in between.
SELECT pg_backend_pid();

-- name: has_schema
SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = :name);

-- name: create_schema
-- Asked for first: it may have been made by somebody else, for us, who may not.
CREATE SCHEMA :schema;

-- name: use_schema
SET LOCAL search_path TO :schema;

-- name: lock_migrations
-- One process at a time; the others wait, however long it takes.
SELECT pg_advisory_xact_lock(hashtextextended(:name, 1));

-- name: wait_little
-- Whoever waits for a table stands in front of everybody else who wants it.
SET LOCAL lock_timeout TO '2s';

-- name: knows_migrations
SELECT to_regclass(:name) IS NOT NULL;

-- name: create_migrations
CREATE TABLE IF NOT EXISTS migrations (
  number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, ran_at timestamptz NOT NULL DEFAULT now()
);

-- name: applied_migrations
SELECT number, name, checksum, (extract(epoch FROM ran_at) * 1000)::bigint FROM migrations ORDER BY number;

-- name: note_migration
INSERT INTO migrations (number, name, checksum) VALUES (:number, :name, :checksum);

-- name: insert_store
INSERT INTO store (one, id, secret, catalog_version) VALUES (1, :id, :secret, 0) ON CONFLICT DO NOTHING;
