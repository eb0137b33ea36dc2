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

ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE acks SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
