-- Groups: messages that are counted as they end. A row counts for its group; what is to be sent at its end lies with it.
CREATE TABLE groups (
  id BLOB PRIMARY KEY,                  -- in the order of starting
  name TEXT NOT NULL,
  state TEXT NOT NULL,
  on_failure TEXT NOT NULL,             -- cancel, continue
  has_edges INTEGER NOT NULL,           -- some members come after others
  total INTEGER NOT NULL,
  unsent INTEGER NOT NULL,              -- of them not sent yet
  succeeded INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  cancelled INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  deadline_ms INTEGER NOT NULL,
  deadline_at INTEGER,                  -- once it runs
  ended_at INTEGER,
  expires_at INTEGER,                   -- when it is forgotten; not while it runs
  on_complete BLOB                      -- JSON: a draft
) WITHOUT ROWID;
CREATE INDEX groups_live ON groups (deadline_at) WHERE ended_at IS NULL;
CREATE INDEX groups_expiry ON groups (expires_at) WHERE expires_at IS NOT NULL;

-- Members, by their messages. What is no longer waiting, ready, sent or ending was counted.
CREATE TABLE group_nodes (
  id BLOB PRIMARY KEY,                  -- its message's
  group_id BLOB NOT NULL,
  place INTEGER NOT NULL,
  queue TEXT NOT NULL,
  job TEXT,
  state TEXT NOT NULL,
  waits_for INTEGER NOT NULL,           -- members it comes after that have not ended
  takes INTEGER,                        -- the place of the one whose result is its body
  ended_at INTEGER
) WITHOUT ROWID;
CREATE UNIQUE INDEX group_nodes_place ON group_nodes (group_id, place);
CREATE INDEX group_nodes_ready ON group_nodes (group_id, place) WHERE state = 'ready';

CREATE TABLE group_edges (
  group_id BLOB NOT NULL,
  parent INTEGER NOT NULL,
  child INTEGER NOT NULL,
  PRIMARY KEY (group_id, parent, child)
) WITHOUT ROWID;

-- The messages of members that are not sent yet.
CREATE TABLE group_drafts (
  group_id BLOB NOT NULL,
  place INTEGER NOT NULL,
  draft BLOB NOT NULL,                  -- JSON
  PRIMARY KEY (group_id, place)
);
