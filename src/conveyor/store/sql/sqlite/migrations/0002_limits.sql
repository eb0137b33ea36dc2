-- Rates, and keys that take turns. Rows exist only for queues whose consumers ask for them.

ALTER TABLE messages ADD COLUMN cost INTEGER;                       -- NULL is 1
ALTER TABLE queues ADD COLUMN rests_keys INTEGER NOT NULL DEFAULT 0; -- a handler has made a key rest

-- What was leased of a rate within its last period: of a queue under the key '', and of its keys. A purge leaves it.
CREATE TABLE rates (
  queue TEXT NOT NULL,
  key TEXT NOT NULL,
  entries TEXT NOT NULL,                -- JSON of [[time, amount], ...]
  ends_at INTEGER NOT NULL,             -- from then on nothing of it counts
  opens_at INTEGER,                     -- the key is closed until then, and is to be looked at then
  PRIMARY KEY (queue, key)
) WITHOUT ROWID;
CREATE INDEX rates_opening ON rates (queue, opens_at) WHERE opens_at IS NOT NULL;
CREATE INDEX rates_ended ON rates (ends_at) WHERE opens_at IS NULL;

-- The line of a fair queue's keys, for each level of priority. Those without a key stand there as ''.
CREATE TABLE turns (
  lane INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  turn INTEGER NOT NULL,                -- lower goes first
  key TEXT NOT NULL,
  remains INTEGER NOT NULL,             -- messages that it may still give in this turn
  PRIMARY KEY (lane, priority, turn)
) WITHOUT ROWID;
CREATE UNIQUE INDEX turns_key ON turns (lane, priority, key);

-- Keys of fair queues that may come to the line, since a message of theirs is ready then, or a lease has ended.
CREATE TABLE called (
  lane INTEGER NOT NULL,
  due_at INTEGER NOT NULL,
  key TEXT NOT NULL,
  PRIMARY KEY (lane, due_at, key)
) WITHOUT ROWID;
