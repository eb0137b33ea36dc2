-- Rates, and keys that take turns. Rows exist only for queues whose consumers ask for them.

ALTER TABLE messages ADD COLUMN cost integer;                         -- NULL is 1
ALTER TABLE queues ADD COLUMN rests_keys boolean NOT NULL DEFAULT false; -- a handler has made a key rest

-- What was leased of a rate within its last period: of a queue under the key '', and of its keys. A purge leaves it.
CREATE TABLE rates (
  queue text COLLATE "C" NOT NULL,
  key text COLLATE "C" NOT NULL,
  entries text NOT NULL,                -- JSON of [[time, amount], ...]
  ends_at bigint NOT NULL,              -- from then on nothing of it counts
  opens_at bigint,                      -- the key is closed until then, and is to be looked at then
  PRIMARY KEY (queue, key)
) WITH (fillfactor = 50);
CREATE INDEX rates_opening ON rates (queue, opens_at) WHERE opens_at IS NOT NULL;
CREATE INDEX rates_ended ON rates (ends_at) WHERE opens_at IS NULL;

-- The line of a fair queue's keys, for each level of priority. Those without a key stand there as ''.
CREATE TABLE turns (
  lane bigint NOT NULL,
  priority smallint NOT NULL,
  turn bigint NOT NULL,                 -- lower goes first
  key text COLLATE "C" NOT NULL,
  remains integer NOT NULL,             -- messages that it may still give in this turn
  PRIMARY KEY (lane, priority, turn)
);
-- The key first: without statistics a planner would walk a whole line in an index that begins as the primary key does.
CREATE UNIQUE INDEX turns_key ON turns (key, lane, priority);

-- Keys of fair queues that may come to the line, since a message of theirs is ready then, or a lease has ended. Only ever
-- inserted by senders, so that none of them waits for another.
CREATE TABLE called (
  lane bigint NOT NULL,
  due_at bigint NOT NULL,
  key text COLLATE "C" NOT NULL
);
CREATE INDEX called_due ON called (lane, due_at);

ALTER TABLE keyed SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE rates SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE turns SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE called SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
