-- name: due_since
-- What a sweep would clear, and since when its oldest waits. Some of it walks whole tables: for the doctor only.
SELECT 'dead owners', min(lease_until) FROM owners WHERE lease_until <= :now::bigint
UNION ALL
SELECT 'pulled leases', min(lease_until) FROM leased WHERE lease_until IS NOT NULL AND lease_until <= :now::bigint
UNION ALL
SELECT 'dedupe keys', min(until) FROM dedupe d
WHERE until <= :now::bigint
  AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.seq = d.seq AND m.id = d.id AND m.lane = d.lane)
UNION ALL
SELECT 'receipts', min(committed_at) + :receipt_ms::bigint FROM receipts
WHERE committed_at > 0 AND committed_at <= :now::bigint - :receipt_ms::bigint
UNION ALL
SELECT 'kv entries', min(expires_at) FROM kv WHERE expires_at IS NOT NULL AND expires_at <= :now::bigint;

-- name: count_purged
-- Never more than :limit.
SELECT count(*) FROM (SELECT 1 FROM purged p JOIN ready r ON r.lane = p.lane LIMIT :limit) counted;

-- name: count_dead_letters
SELECT q.name, count(*) FROM dead_letters d JOIN queues q ON q.lane = d.lane GROUP BY q.name;

-- name: read_server
SELECT current_setting('server_version_num')::integer AS version, current_setting('server_version') AS release,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('default_transaction_read_only') AS read_only, current_setting('autovacuum') AS autovacuum,
       pg_is_in_recovery() AS is_standby,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
         AS connections_max,
       age(datfrozenxid) AS xid_age, mxid_age(datminmxid) AS mxid_age,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all
FROM pg_database WHERE datname = current_database();

-- name: list_holders
-- Who keeps dead rows from being cleared away, the oldest first; a session that sits in a transaction is told even so.
SELECT kind, who, (1000 * age_s)::bigint AS age_ms, xids FROM (
  SELECT CASE WHEN state LIKE 'idle in transaction%' THEN 'idle in transaction' ELSE 'transaction' END AS kind,
         format('pid %s, user %s, application "%s"', pid, usename, application_name) AS who,
         extract(epoch FROM clock_timestamp() - xact_start) AS age_s,
         greatest(age(backend_xmin), age(backend_xid)) AS xids
  FROM pg_stat_activity
  WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type <> 'autovacuum worker'
    AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR state LIKE 'idle in transaction%')
  UNION ALL
  SELECT 'standby', format('"%s" at %s', application_name, client_addr), NULL, age(backend_xmin)
  FROM pg_stat_replication WHERE backend_xmin IS NOT NULL
  UNION ALL
  SELECT CASE WHEN active THEN 'replication slot' ELSE 'idle replication slot' END, format('"%s"', slot_name), NULL,
         greatest(age(xmin), age(catalog_xmin))
  FROM pg_replication_slots WHERE xmin IS NOT NULL OR catalog_xmin IS NOT NULL
  UNION ALL
  SELECT 'prepared transaction', format('"%s", user %s', gid, owner), extract(epoch FROM clock_timestamp() - prepared),
         age(transaction)
  FROM pg_prepared_xacts WHERE database = current_database()
) held ORDER BY age_s DESC NULLS LAST, xids DESC NULLS LAST LIMIT 20;

-- name: list_tables
SELECT s.relname AS name, s.n_live_tup AS live_rows, s.n_dead_tup AS dead_rows, pg_total_relation_size(s.relid) AS size_bytes,
       coalesce(NOT 'autovacuum_enabled=false' = ANY (c.reloptions), true) AS is_vacuumed
FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid WHERE s.schemaname = current_schema() ORDER BY s.relname;

-- name: list_indexes
SELECT c.relname AS name, i.indisvalid AS is_valid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema()));

-- name: read_clock
SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- name: sum_backlog
SELECT coalesce(sum(messages), 0)::bigint, coalesce(sum(bytes), 0)::bigint FROM counters;
