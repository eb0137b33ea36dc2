-- What is sent and acked inside users' own transactions. Such a transaction may stay open for long, so it takes nothing
-- that anybody waits for: no lock of the catalog, no row that others write. Its messages lie here until its COMMIT, and are
-- carried into their queues after it. The rest of a name's search is pg_temp, so that no table of the user's stands in front.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

CREATE TABLE outbox (
  place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue text COLLATE "C" NOT NULL,
  draft text NOT NULL,                  -- JSON of Draft without its body
  body bytea NOT NULL,
  dedupe text COLLATE "C",
  sent_at bigint NOT NULL
);
CREATE INDEX outbox_dedupe ON outbox (queue, dedupe) WHERE dedupe IS NOT NULL;

-- An ack is weighed when the user commits, not before: whoever must take the lease away meanwhile does not wait. The row is
-- gone with the COMMIT. What is acked so lies in `leased`, of owner -1, until the rest of an ack has been done.
CREATE TABLE acks (owner bigint NOT NULL, seq bigint NOT NULL, claims integer NOT NULL);
CREATE INDEX acks_seq ON acks (seq);

CREATE FUNCTION end_acked_lease() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan TO off
AS $$
BEGIN
  UPDATE leased SET owner = -1 WHERE owner = NEW.owner AND seq = NEW.seq AND claims = NEW.claims;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the lease was lost before the COMMIT: somebody else has the message, or has finished it'
      USING ERRCODE = 'QL001', HINT = 'nothing of this transaction is kept; the message is handled by whoever has it now';
  END IF;
  DELETE FROM acks WHERE seq = NEW.seq AND owner = NEW.owner AND claims = NEW.claims;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER acked AFTER INSERT ON acks DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION end_acked_lease();

-- The same for every language, and for triggers: `SELECT conveyor.push('orders', '{"item": "lamp"}')`. What it checks is
-- what `tx=` checks; it raises instead of saying so, since there is nobody to be told otherwise.
CREATE FUNCTION push(
  queue text, body jsonb, delay interval DEFAULT NULL, priority integer DEFAULT 5, key text DEFAULT NULL,
  dedupe text DEFAULT NULL, headers jsonb DEFAULT NULL, expires_in interval DEFAULT NULL, cost integer DEFAULT 1
) RETURNS text LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan TO off
AS $$
#variable_conflict use_column
DECLARE
  now_ms bigint := extract(epoch FROM clock_timestamp()) * 1000;
  written bytea := convert_to(push.body::text, 'UTF8');
  head bytea := convert_to(push.headers::text, 'UTF8');
  new_id bytea := substr(int8send(now_ms), 3, 6) || substr(uuid_send(gen_random_uuid()), 1, 10);
  held bytea;
  of_lane bigint;
  limits jsonb;
  rate integer;
  key_rate integer;
  waiting bigint;
  waiting_bytes bigint;
BEGIN
  SELECT q.lane, q.settings::jsonb, (q.consumer::jsonb #>> '{rate,count}')::integer, (q.consumer::jsonb #>> '{key_rate,count}')::integer
    INTO of_lane, limits, rate, key_rate FROM queues q WHERE q.name = push.queue;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'queue "%" does not exist', push.queue USING ERRCODE = 'QL002';
  ELSIF written IS NULL OR octet_length(written) > (limits ->> 'max_message_bytes')::bigint THEN
    RAISE EXCEPTION 'the body is NULL or larger than the % bytes of queue "%"', limits ->> 'max_message_bytes', push.queue
      USING ERRCODE = 'QL003';
  ELSIF push.priority IS NULL OR push.priority NOT BETWEEN 0 AND 9 OR push.delay NOT BETWEEN '0' AND '1 day'
    OR push.expires_in <= '0' OR length(push.key) NOT BETWEEN 1 AND 256 OR length(push.dedupe) NOT BETWEEN 1 AND 256
    OR push.cost IS NULL OR push.cost NOT BETWEEN 1 AND least(rate, key_rate, 1000000) OR octet_length(head) > 4096 OR jsonb_typeof(push.headers) <> 'object' THEN
    RAISE EXCEPTION 'priority is 0 to 9, delay up to 1 day, expires_in more than 0, keys of 1 to 256 characters, headers an '
      'object of up to 4,096 bytes, cost at least 1 and within the rates' USING ERRCODE = 'QL004';
  END IF;
  IF push.dedupe IS NOT NULL THEN
    SELECT d.id INTO held FROM dedupe d WHERE d.lane = of_lane AND d.key = push.dedupe AND (d.until > now_ms
      OR EXISTS (SELECT 1 FROM messages m WHERE m.seq = d.seq AND m.id = d.id AND m.lane = d.lane));
    IF NOT FOUND THEN
      SELECT decode(o.draft::jsonb ->> 'id', 'base64') INTO held FROM outbox o
      WHERE o.queue = push.queue AND o.dedupe = push.dedupe ORDER BY o.place LIMIT 1;
    END IF;
    IF held IS NOT NULL THEN
      RETURN encode(held, 'hex');
    END IF;
  END IF;
  SELECT sum(w.messages), sum(w.bytes) INTO waiting, waiting_bytes FROM (
    SELECT c.messages, c.bytes FROM counters c WHERE c.lane = of_lane
    UNION ALL SELECT count(*), sum(octet_length(o.body)) FROM outbox o WHERE o.queue = push.queue
  ) w (messages, bytes);
  IF waiting >= (limits ->> 'max_backlog_messages')::bigint
    OR waiting_bytes + octet_length(written) > (limits ->> 'max_backlog_bytes')::bigint THEN
    RAISE EXCEPTION 'queue "%" is full', push.queue USING ERRCODE = 'QL005';
  END IF;
  INSERT INTO outbox (queue, draft, body, dedupe, sent_at) VALUES (push.queue, jsonb_strip_nulls(jsonb_build_object(
    'id', encode(new_id, 'base64'), 'queue', push.queue, 'body', '', 'priority', push.priority, 'key', push.key, 'cost', push.cost,
    'dedupe', push.dedupe, 'headers', translate(encode(head, 'base64'), E'\n', ''),
    'delay_ms', (extract(epoch FROM push.delay) * 1000)::bigint,
    'expires_in_ms', (extract(epoch FROM push.expires_in) * 1000)::bigint
  ))::text, written, push.dedupe, now_ms);
  RETURN encode(new_id, 'hex');
END $$;

ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE acks SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
