-- What jobs have got done within themselves. Kept as long as the job's row, which the first step makes.
CREATE TABLE steps (
  id BLOB NOT NULL,                     -- the job's
  kind TEXT NOT NULL CHECK (kind IN ('step', 'sleep', 'wait')),
  name TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  began_at INTEGER NOT NULL,
  ended_at INTEGER,                      -- of a wait: without its event
  until INTEGER,                         -- how long it sleeps or waits
  value BLOB,                          -- JSON
  PRIMARY KEY (id, kind, name)
) WITHOUT ROWID;

-- What was sent to jobs. The first of a name counts.
CREATE TABLE job_events (
  id BLOB NOT NULL,
  name TEXT NOT NULL,
  payload BLOB NOT NULL,               -- JSON
  sent_at INTEGER NOT NULL,
  PRIMARY KEY (id, name)
) WITHOUT ROWID;
