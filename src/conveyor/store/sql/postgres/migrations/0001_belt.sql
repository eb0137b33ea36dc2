-- A message lies in one row of `messages` for all its life, and in one row of `ready` or `leased`: its state is the table
-- in which it lies. Bodies are therefore written once; what a claim and an ack touch is narrow.

CREATE TABLE store (
  one integer PRIMARY KEY CHECK (one = 1),
  id bytea NOT NULL,
  secret bytea NOT NULL,                -- signs the lease ids of pull consumers
  catalog_version bigint NOT NULL       -- grows with every change of a queue, so that caches know
);

-- CACHE 1 and no other: between sends where one returned before the next began, the order is seq.
CREATE SEQUENCE message_seq AS bigint CACHE 1;
CREATE SEQUENCE lane_seq AS bigint CACHE 1;
CREATE SEQUENCE owner_seq AS bigint CACHE 1;

-- A queue's rows are found by its lane; a purge gives the queue a new lane, and leaves the old one to the sweep.
CREATE TABLE queues (
  name text COLLATE "C" PRIMARY KEY,
  lane bigint NOT NULL UNIQUE,
  settings text NOT NULL,               -- JSON of QueueSettings
  consumer text,                        -- JSON of ConsumerSettings, as it operates
  declared text,                        -- JSON of ConsumerSettings, as its app last declared it
  paused boolean NOT NULL DEFAULT false,
  throttled_until bigint NOT NULL DEFAULT 0,
  levels integer NOT NULL DEFAULT 0,    -- a bit for each priority that was ever sent
  holds_dead boolean NOT NULL DEFAULT false,
  version bigint NOT NULL,
  created_at bigint NOT NULL,
  modified_at bigint NOT NULL
);

-- What each commit group changed; read by sum, folded by the sweep. No two senders ever wait for a row of it.
CREATE TABLE counters (
  lane bigint NOT NULL,
  messages bigint NOT NULL,
  bytes bigint NOT NULL
);
CREATE INDEX counters_lane ON counters (lane);

CREATE TABLE messages (
  seq bigint PRIMARY KEY,
  lane bigint NOT NULL,
  id bytea NOT NULL UNIQUE CHECK (octet_length(id) = 16),
  body bytea NOT NULL,
  content_type smallint NOT NULL,       -- 0 json, 1 text, 2 bytes
  sent_at bigint NOT NULL,
  ready_at bigint NOT NULL,             -- with priority, its place in `ready`
  first_ready_at bigint NOT NULL,       -- retention counts from here
  priority smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
  key text COLLATE "C",
  headers bytea,
  expires_at bigint,
  max_retries integer,
  dedupe text COLLATE "C"
);

-- READY, in the order of claims. shelf: 0 open, 1 crash suspects, 2 waiting for another message of its key.
CREATE TABLE ready (
  lane bigint NOT NULL,
  shelf smallint NOT NULL CHECK (shelf IN (0, 1, 2)),
  priority smallint NOT NULL,
  ready_at bigint NOT NULL,
  seq bigint NOT NULL,
  claims integer NOT NULL,
  releases integer NOT NULL,
  crashes integer NOT NULL,
  PRIMARY KEY (lane, shelf, priority, ready_at, seq)
);

-- LEASED. Owner 0 pulls, and its leases end one by one; a worker's live as long as its owner row.
CREATE TABLE leased (
  owner bigint NOT NULL,
  seq bigint NOT NULL,
  lane bigint NOT NULL,
  claims integer NOT NULL,
  releases integer NOT NULL,
  crashes integer NOT NULL,
  suspect boolean NOT NULL,
  size integer NOT NULL,
  lease_until bigint,                   -- pulled leases only, as is the moment past which none is extended
  lease_most bigint,
  PRIMARY KEY (owner, seq)
);
CREATE INDEX leased_until ON leased (lease_until) WHERE lease_until IS NOT NULL;

CREATE TABLE owners (
  owner bigint PRIMARY KEY,
  info text NOT NULL,                   -- JSON of OwnerInfo
  lease_until bigint NOT NULL
) WITH (fillfactor = 50);

-- Handler calls running per worker process; rows exist only for queues with a max_concurrency.
CREATE TABLE slots (
  lane bigint NOT NULL,
  owner bigint NOT NULL,
  held integer NOT NULL CHECK (held > 0),
  PRIMARY KEY (lane, owner)
) WITH (fillfactor = 50);

-- Messages with a key, where the consumer gates keys. place: 0 waiting, 1 leased, 2 blocked.
CREATE TABLE keyed (
  lane bigint NOT NULL,
  key text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  place smallint NOT NULL CHECK (place IN (0, 1, 2)),
  priority smallint NOT NULL,
  ready_at bigint NOT NULL,             -- of a blocked one, its place in the order of claims
  PRIMARY KEY (lane, key, seq)
);
CREATE INDEX keyed_blocked ON keyed (lane, key, priority DESC, ready_at, seq) WHERE place = 2;
CREATE INDEX keyed_leased ON keyed (lane, key) WHERE place = 1;

CREATE TABLE dedupe (
  lane bigint NOT NULL,
  key text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  id bytea NOT NULL,
  until bigint NOT NULL,
  PRIMARY KEY (lane, key)
);

CREATE TABLE dead_letters (
  lane bigint NOT NULL,
  seq bigint NOT NULL,
  origin_queue text NOT NULL,
  reason text NOT NULL,
  last_error text,
  dead_at bigint NOT NULL,
  PRIMARY KEY (lane, seq)
);

CREATE TABLE purged (lane bigint PRIMARY KEY);

-- The last commit group of each connection: tells, after a lost answer, whether it was committed.
CREATE TABLE receipts (
  writer bytea PRIMARY KEY,
  number bigint NOT NULL,
  committed_at bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE schedules (
  name text COLLATE "C" PRIMARY KEY,
  draft text NOT NULL,                  -- JSON of ScheduleDraft
  version bigint NOT NULL,
  next_tick bigint,
  paused boolean NOT NULL DEFAULT false
);

CREATE TABLE runs (
  schedule text COLLATE "C" NOT NULL,
  tick bigint NOT NULL,
  trigger text NOT NULL,
  status text NOT NULL,
  correlation_id text NOT NULL,
  message_id bytea,
  fired_at bigint NOT NULL,
  started_at bigint,
  finished_at bigint,
  error text,
  PRIMARY KEY (schedule, tick)
);
CREATE UNIQUE INDEX runs_message ON runs (message_id) WHERE message_id IS NOT NULL;

CREATE TABLE kv (
  namespace text COLLATE "C" NOT NULL,
  key bytea NOT NULL,                   -- UTF-8: a key may hold NUL, which text may not
  value bytea NOT NULL,
  metadata bytea,
  expires_at bigint,
  PRIMARY KEY (namespace, key)
);
CREATE INDEX kv_expiry ON kv (expires_at) WHERE expires_at IS NOT NULL;

-- Rows come and go by the thousand a second: vacuum often, and do not nap meanwhile.
ALTER TABLE messages SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE ready SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE leased SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE counters SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
