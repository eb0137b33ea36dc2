-- One durable timer per name. What will ring it is a message, delayed until then: its id is the alarm's generation, and
-- its place says how the alarm stands. A row whose message is no longer in its queue is parked.
CREATE TABLE alarms (
  name TEXT PRIMARY KEY,
  queue TEXT NOT NULL,
  message_id BLOB NOT NULL,
  due_at INTEGER NOT NULL,
  set_at INTEGER NOT NULL,
  failed_at INTEGER,                    -- of the last failure, as is the error
  error TEXT
) WITHOUT ROWID;
