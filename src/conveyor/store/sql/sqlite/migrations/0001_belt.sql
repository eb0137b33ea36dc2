-- A message lies in one row of `messages` for all its life, and in one row of `ready` or `leased`: its state is the table
-- in which it lies. Bodies are therefore written once; what a claim and an ack touch is narrow.

CREATE TABLE store (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  id BLOB NOT NULL,                     -- of this file, for its processes' wake-ups
  secret BLOB NOT NULL,                 -- signs the lease ids of pull consumers
  catalog_version INTEGER NOT NULL,     -- grows with every change of a queue, so that caches know
  last_seq INTEGER NOT NULL,
  last_lane INTEGER NOT NULL,
  last_owner INTEGER NOT NULL,
  boot TEXT NOT NULL,                   -- the clock's anchor: at `boot_ms` after this boot it was `wall_ms`
  boot_ms INTEGER NOT NULL,
  wall_ms INTEGER NOT NULL
);

-- A queue's rows are found by its lane; a purge gives the queue a new lane, and leaves the old one to the sweep.
CREATE TABLE queues (
  name TEXT PRIMARY KEY,
  lane INTEGER NOT NULL UNIQUE,
  settings TEXT NOT NULL,               -- JSON of QueueSettings
  consumer TEXT,                        -- JSON of ConsumerSettings, as it operates
  declared TEXT,                        -- JSON of ConsumerSettings, as its app last declared it
  paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
  throttled_until INTEGER NOT NULL DEFAULT 0,
  levels INTEGER NOT NULL DEFAULT 0,    -- a bit for each priority that was ever sent
  holds_dead INTEGER NOT NULL DEFAULT 0 CHECK (holds_dead IN (0, 1)),
  uses_dedupe INTEGER NOT NULL DEFAULT 0 CHECK (uses_dedupe IN (0, 1)),
  version INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  modified_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE counters (
  lane INTEGER PRIMARY KEY,
  messages INTEGER NOT NULL,
  bytes INTEGER NOT NULL
);

CREATE TABLE messages (
  seq INTEGER PRIMARY KEY,
  lane INTEGER NOT NULL,
  id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
  body BLOB NOT NULL,
  content_type INTEGER NOT NULL,        -- 0 json, 1 text, 2 bytes
  sent_at INTEGER NOT NULL,
  ready_at INTEGER NOT NULL,            -- with priority, its place in `ready`
  first_ready_at INTEGER NOT NULL,      -- retention counts from here
  priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
  key TEXT,
  headers BLOB,
  expires_at INTEGER,
  max_retries INTEGER,
  dedupe TEXT
);

-- READY, in the order of claims. shelf: 0 open, 1 crash suspects, 2 waiting for another message of its key.
CREATE TABLE ready (
  lane INTEGER NOT NULL,
  shelf INTEGER NOT NULL CHECK (shelf IN (0, 1, 2)),
  priority INTEGER NOT NULL,
  ready_at INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  claims INTEGER NOT NULL,
  releases INTEGER NOT NULL,
  crashes INTEGER NOT NULL,
  PRIMARY KEY (lane, shelf, priority, ready_at, seq)
) WITHOUT ROWID;

-- LEASED. Owner 0 pulls, and its leases end one by one; a worker's live as long as its owner row.
CREATE TABLE leased (
  owner INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  lane INTEGER NOT NULL,
  claims INTEGER NOT NULL,
  releases INTEGER NOT NULL,
  crashes INTEGER NOT NULL,
  suspect INTEGER NOT NULL,
  size INTEGER NOT NULL,
  lease_until INTEGER,                  -- pulled leases only, as is the moment past which none is extended
  lease_most INTEGER,
  PRIMARY KEY (owner, seq)
) WITHOUT ROWID;
CREATE INDEX leased_until ON leased (lease_until) WHERE lease_until IS NOT NULL;

CREATE TABLE owners (
  owner INTEGER PRIMARY KEY,
  info TEXT NOT NULL,                   -- JSON of OwnerInfo
  lease_until INTEGER NOT NULL
);

-- Handler calls running per worker process; rows exist only for queues with a max_concurrency.
CREATE TABLE slots (
  lane INTEGER NOT NULL,
  owner INTEGER NOT NULL,
  held INTEGER NOT NULL CHECK (held > 0),
  PRIMARY KEY (lane, owner)
) WITHOUT ROWID;

-- Messages with a key, where the consumer gates keys. place: 0 waiting, 1 leased, 2 blocked.
CREATE TABLE keyed (
  lane INTEGER NOT NULL,
  key TEXT NOT NULL,
  seq INTEGER NOT NULL,
  place INTEGER NOT NULL CHECK (place IN (0, 1, 2)),
  priority INTEGER NOT NULL,
  ready_at INTEGER NOT NULL,            -- of a blocked one, its place in the order of claims
  PRIMARY KEY (lane, key, seq)
) WITHOUT ROWID;
CREATE INDEX keyed_blocked ON keyed (lane, key, priority DESC, ready_at, seq) WHERE place = 2;
CREATE INDEX keyed_leased ON keyed (lane, key) WHERE place = 1;

-- Live until its message is final (then seq is 0), or until its window ends, whichever is later.
CREATE TABLE dedupe (
  lane INTEGER NOT NULL,
  key TEXT NOT NULL,
  seq INTEGER NOT NULL,
  id BLOB NOT NULL,
  until INTEGER NOT NULL,
  PRIMARY KEY (lane, key)
) WITHOUT ROWID;
CREATE INDEX dedupe_ended ON dedupe (until) WHERE seq = 0;

CREATE TABLE dead_letters (
  lane INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  origin_queue TEXT NOT NULL,
  reason TEXT NOT NULL,
  last_error TEXT,
  dead_at INTEGER NOT NULL,
  PRIMARY KEY (lane, seq)
) WITHOUT ROWID;

CREATE TABLE purged (lane INTEGER PRIMARY KEY);

-- The last commit group of each writer: tells, after a lost answer, whether it was committed.
CREATE TABLE receipts (
  writer BLOB PRIMARY KEY,
  number INTEGER NOT NULL,
  committed_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE schedules (
  name TEXT PRIMARY KEY,
  draft TEXT NOT NULL,                  -- JSON of ScheduleDraft
  version INTEGER NOT NULL,
  next_tick INTEGER,
  paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1))
) WITHOUT ROWID;

CREATE TABLE runs (
  schedule TEXT NOT NULL,
  tick INTEGER NOT NULL,
  trigger TEXT NOT NULL,
  status TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  message_id BLOB,
  fired_at INTEGER NOT NULL,
  started_at INTEGER,
  finished_at INTEGER,
  error TEXT,
  PRIMARY KEY (schedule, tick)
) WITHOUT ROWID;

CREATE UNIQUE INDEX runs_message ON runs (message_id) WHERE message_id IS NOT NULL;

CREATE TABLE kv (
  namespace TEXT NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  metadata BLOB,
  expires_at INTEGER,
  PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
CREATE INDEX kv_expiry ON kv (expires_at) WHERE expires_at IS NOT NULL;
