-- What jobs have got done within themselves. Kept as long as the job's row, which the first step makes.
CREATE TABLE steps (
  id bytea NOT NULL,                     -- the job's
  kind text NOT NULL CHECK (kind IN ('step', 'sleep', 'wait')),
  name text NOT NULL,
  attempt integer NOT NULL,
  began_at bigint NOT NULL,
  ended_at bigint,                      -- of a wait: without its event
  until bigint,                         -- how long it sleeps or waits
  value bytea,                          -- JSON
  PRIMARY KEY (id, kind, name)
);

-- What was sent to jobs. The first of a name counts.
CREATE TABLE job_events (
  id bytea NOT NULL,
  name text NOT NULL,
  payload bytea NOT NULL,               -- JSON
  sent_at bigint NOT NULL,
  PRIMARY KEY (id, name)
);
