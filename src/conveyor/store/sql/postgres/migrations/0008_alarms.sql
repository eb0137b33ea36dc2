-- One durable timer per name. What will ring it is a message, delayed until then: its id is the alarm's generation, and
-- its place says how the alarm stands. A row whose message is no longer in its queue is parked.
CREATE TABLE alarms (
  name text COLLATE "C" PRIMARY KEY,
  queue text COLLATE "C" NOT NULL,
  message_id bytea NOT NULL,
  due_at bigint NOT NULL,
  set_at bigint NOT NULL,
  failed_at bigint,                     -- of the last failure, as is the error
  error text
);
