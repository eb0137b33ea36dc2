-- What is kept of jobs. A job that is queued for the first time has no row here: its message says how it stands.
CREATE TABLE jobs (
  id bytea PRIMARY KEY CHECK (octet_length(id) = 16),  -- its message's
  name text NOT NULL,
  queue text NOT NULL,
  state text NOT NULL CHECK (state IN ('running', 'retrying', 'succeeded', 'failed', 'cancelled', 'dead')),
  enqueued_at bigint NOT NULL,
  started_at bigint NOT NULL,          -- of the last attempt
  ended_at bigint,
  attempts integer NOT NULL,
  worker text NOT NULL,
  result bytea,                          -- JSON
  result_until bigint,
  error text,
  fingerprint text,
  next_at bigint,
  cancel_at bigint,                    -- somebody wants the running one to end
  expires_at bigint NOT NULL
);
CREATE INDEX jobs_expiry ON jobs (expires_at);
CREATE INDEX jobs_failed ON jobs (fingerprint, id) WHERE fingerprint IS NOT NULL;

-- Attempts that did not succeed. They are kept as long as their job.
CREATE TABLE attempts (
  id bytea NOT NULL,
  started_at bigint NOT NULL,
  attempt integer NOT NULL,
  state text NOT NULL,                  -- of the job, after it
  ended_at bigint NOT NULL,
  worker text NOT NULL,
  error text,
  fingerprint text,
  next_at bigint,
  PRIMARY KEY (id, started_at, attempt)
);

-- As `ack_plain`, with what is kept of the jobs that the messages carry: only of those whose leases end here, so that a call
-- whose answer was lost is simply made again.
CREATE FUNCTION ack_jobs(
  known_version bigint, acking_owner bigint, acked_seqs bigint[], acked_claims integer[], dead_lanes bigint[],
  job_seqs bigint[], job_ids bytea[], names text[], queue_names text[], states text[], enqueued bigint[], started bigint[],
  ended bigint[], tries integer[], workers text[], results bytea[], results_until bigint[], expire bigint[],
  OUT is_done boolean, OUT lost bigint[]
) LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan TO off SET enable_hashjoin TO off SET enable_mergejoin TO off
SET plan_cache_mode TO force_generic_plan SET jit TO off
AS $$
DECLARE
  held text;
  leased_seqs bigint[];
BEGIN
  held := pg_advisory_xact_lock_shared(hashtextextended(current_schema(), 0));
  SELECT s.catalog_version = known_version INTO is_done FROM store s;
  IF NOT is_done THEN
    RETURN;
  END IF;
  SELECT array_agg(l.seq) INTO leased_seqs FROM unnest(acked_seqs, acked_claims) AS a (seq, claims) CROSS JOIN LATERAL (
    SELECT n.seq FROM leased n WHERE n.owner = acking_owner AND n.seq = a.seq AND n.claims = a.claims FOR UPDATE OFFSET 0) l;
  INSERT INTO jobs AS j (id, name, queue, state, enqueued_at, started_at, ended_at, attempts, worker, result, result_until,
    expires_at)
  SELECT u.id, u.name, u.queue, u.state, u.enqueued_at, u.started_at, u.ended_at, u.attempts, u.worker, u.result,
    u.result_until, u.expires_at
  FROM unnest(job_seqs, job_ids, names, queue_names, states, enqueued, started, ended, tries, workers, results, results_until,
      expire)
    AS u (seq, id, name, queue, state, enqueued_at, started_at, ended_at, attempts, worker, result, result_until, expires_at)
  WHERE u.seq = ANY (leased_seqs)
  ON CONFLICT (id) DO UPDATE SET state = excluded.state, started_at = excluded.started_at, ended_at = excluded.ended_at,
    attempts = excluded.attempts, worker = excluded.worker, result = excluded.result,
    result_until = excluded.result_until, error = NULL, fingerprint = NULL, next_at = NULL, cancel_at = NULL,
    expires_at = excluded.expires_at
  WHERE j.state <> 'cancelled';
  SELECT a.is_done, a.lost INTO is_done, lost
    FROM ack_plain(known_version, acking_owner, acked_seqs, acked_claims, dead_lanes) a;
END $$;
