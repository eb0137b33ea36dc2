-- What jobs say of themselves while they run. Kept as long as their jobs: `jobs` has a row before there is one here.
CREATE TABLE reports (
  id bytea PRIMARY KEY,
  last_number bigint NOT NULL,            -- of all that it has said
  log_lines bigint NOT NULL,              -- as many are kept
  log_bytes bigint NOT NULL,
  output_attempt bigint NOT NULL,         -- whose output is kept
  output_bytes bigint NOT NULL,           -- more than the limit: it was cut
  progress_number bigint,                 -- the last that it has said of its progress
  progress_at bigint,
  progress_attempt bigint,
  millionths bigint,                    -- how far it is
  note text
);

-- Lines of their logs, and pieces of their output.
CREATE TABLE report_lines (
  id bytea NOT NULL,
  number bigint NOT NULL,
  kind text NOT NULL,                    -- log, output
  at bigint NOT NULL,
  attempt bigint NOT NULL,
  level text,
  is_text boolean NOT NULL,
  body bytea NOT NULL,
  PRIMARY KEY (id, number)
);

-- A ring of events that processes tell each other's servers.
CREATE TABLE notices (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  origin text NOT NULL,                  -- the process
  at bigint NOT NULL,
  name text NOT NULL,
  body bytea NOT NULL                    -- JSON
);
