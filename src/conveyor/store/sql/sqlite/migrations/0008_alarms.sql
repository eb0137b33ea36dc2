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

-- What went out, or is to go out, to an endpoint of somebody else's. Kept for some time after it has ended.
CREATE TABLE deliveries (
  id BLOB PRIMARY KEY,                  -- in the order of sending
  endpoint TEXT NOT NULL,
  queue TEXT NOT NULL,
  event TEXT NOT NULL,
  state TEXT NOT NULL,                  -- pending, delivered, failed
  message_id BLOB NOT NULL,             -- of the message that carries it: the fence
  created_at INTEGER NOT NULL,
  modified_at INTEGER NOT NULL,
  body BLOB NOT NULL                    -- JSON: what is sent, and every try
) WITHOUT ROWID;
CREATE INDEX deliveries_endpoint ON deliveries (endpoint, id);
CREATE INDEX deliveries_ended ON deliveries (modified_at) WHERE state <> 'pending';
