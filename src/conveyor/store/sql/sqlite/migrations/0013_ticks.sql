-- Queues that go by a clock: the last tick at which something went, and how many messages did. Rows exist only for them.
CREATE TABLE ticks (
  queue TEXT PRIMARY KEY,
  tick INTEGER NOT NULL,
  messages INTEGER NOT NULL
) WITHOUT ROWID;
