-- What is kept of jobs. A job that is queued for the first time has no row here: its message says how it stands.
CREATE TABLE jobs (
  id BLOB PRIMARY KEY CHECK (length(id) = 16),  -- its message's
  name TEXT NOT NULL,
  queue TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('running', 'retrying', 'succeeded', 'failed', 'cancelled', 'dead')),
  enqueued_at INTEGER NOT NULL,
  started_at INTEGER NOT NULL,          -- of the last attempt
  ended_at INTEGER,
  attempts INTEGER NOT NULL,
  worker TEXT NOT NULL,
  result BLOB,                          -- JSON
  result_until INTEGER,
  error TEXT,
  fingerprint TEXT,
  next_at INTEGER,
  cancel_at INTEGER,                    -- somebody wants the running one to end
  expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX jobs_expiry ON jobs (expires_at);
CREATE INDEX jobs_failed ON jobs (fingerprint, id) WHERE fingerprint IS NOT NULL;

-- Attempts that did not succeed. They are kept as long as their job.
CREATE TABLE attempts (
  id BLOB NOT NULL,
  started_at INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  state TEXT NOT NULL,                  -- of the job, after it
  ended_at INTEGER NOT NULL,
  worker TEXT NOT NULL,
  error TEXT,
  fingerprint TEXT,
  next_at INTEGER,
  PRIMARY KEY (id, started_at, attempt)
) WITHOUT ROWID;
