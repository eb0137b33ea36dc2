-- Groups: messages that are counted as they end. A row counts for its group; what is to be sent at its end lies with it.
CREATE TABLE groups (
  id bytea PRIMARY KEY,                  -- in the order of starting
  name text COLLATE "C" NOT NULL,
  state text NOT NULL,
  on_failure text NOT NULL,             -- cancel, continue
  has_edges boolean NOT NULL,           -- some members come after others
  total bigint NOT NULL,
  unsent bigint NOT NULL,              -- of them not sent yet
  succeeded bigint NOT NULL,
  failed bigint NOT NULL,
  cancelled bigint NOT NULL,
  created_at bigint NOT NULL,
  deadline_ms bigint NOT NULL,
  deadline_at bigint,                  -- once it runs
  ended_at bigint,
  expires_at bigint,                   -- when it is forgotten; not while it runs
  on_complete bytea                      -- JSON: a draft
) WITH (fillfactor = 50);
CREATE INDEX groups_live ON groups (deadline_at) WHERE ended_at IS NULL;
CREATE INDEX groups_expiry ON groups (expires_at) WHERE expires_at IS NOT NULL;

-- Members, by their messages. What is no longer waiting, ready, sent or ending was counted.
CREATE TABLE group_nodes (
  id bytea PRIMARY KEY,                  -- its message's
  group_id bytea NOT NULL,
  place bigint NOT NULL,
  queue text COLLATE "C" NOT NULL,
  job text,
  state text NOT NULL,
  waits_for bigint NOT NULL,           -- members it comes after that have not ended
  takes bigint,                        -- the place of the one whose result is its body
  ended_at bigint
);
CREATE UNIQUE INDEX group_nodes_place ON group_nodes (group_id, place);
CREATE INDEX group_nodes_ready ON group_nodes (group_id, place) WHERE state = 'ready';

CREATE TABLE group_edges (
  group_id bytea NOT NULL,
  parent bigint NOT NULL,
  child bigint NOT NULL,
  PRIMARY KEY (group_id, parent, child)
);

-- The messages of members that are not sent yet.
CREATE TABLE group_drafts (
  group_id bytea NOT NULL,
  place bigint NOT NULL,
  draft bytea NOT NULL,                  -- JSON
  PRIMARY KEY (group_id, place)
);
