-- Queues that go by a clock: the last tick at which something went, and how many messages did. Rows exist only for them.
CREATE TABLE ticks (
  queue text COLLATE "C" PRIMARY KEY,
  tick bigint NOT NULL,
  messages integer NOT NULL
) WITH (fillfactor = 50);
