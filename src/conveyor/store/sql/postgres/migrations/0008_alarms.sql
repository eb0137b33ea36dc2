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

-- What went out, or is to go out, to an endpoint of somebody else's. Kept for some time after it has ended.
CREATE TABLE deliveries (
  id bytea PRIMARY KEY,                 -- in the order of sending
  endpoint text COLLATE "C" NOT NULL,
  queue text COLLATE "C" NOT NULL,
  event text NOT NULL,
  state text NOT NULL,                  -- pending, delivered, failed
  message_id bytea NOT NULL,            -- of the message that carries it: the fence
  created_at bigint NOT NULL,
  modified_at bigint NOT NULL,
  body bytea NOT NULL                   -- JSON: what is sent, and every try
);
CREATE INDEX deliveries_endpoint ON deliveries (endpoint, id);
CREATE INDEX deliveries_ended ON deliveries (modified_at) WHERE state <> 'pending';
