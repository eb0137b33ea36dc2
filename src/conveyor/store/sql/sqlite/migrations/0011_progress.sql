-- What jobs say of themselves while they run. Kept as long as their jobs: `jobs` has a row before there is one here.
CREATE TABLE reports (
  id BLOB PRIMARY KEY,
  last_number INTEGER NOT NULL,            -- of all that it has said
  log_lines INTEGER NOT NULL,              -- as many are kept
  log_bytes INTEGER NOT NULL,
  output_attempt INTEGER NOT NULL,         -- whose output is kept
  output_bytes INTEGER NOT NULL,           -- more than the limit: it was cut
  progress_number INTEGER,                 -- the last that it has said of its progress
  progress_at INTEGER,
  progress_attempt INTEGER,
  millionths INTEGER,                   -- how far it is
  note TEXT
) WITHOUT ROWID;

-- Lines of their logs, and pieces of their output.
CREATE TABLE report_lines (
  id BLOB NOT NULL,
  number INTEGER NOT NULL,
  kind TEXT NOT NULL,                    -- log, output
  at INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  level TEXT,
  is_text INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (id, number)
) WITHOUT ROWID;

-- A ring of events that processes tell each other's servers.
CREATE TABLE notices (
  number INTEGER PRIMARY KEY,
  origin TEXT NOT NULL,                  -- the process
  at INTEGER NOT NULL,
  name TEXT NOT NULL,
  body BLOB NOT NULL                     -- JSON
);
