-- The plain path: a send, a claim or acks that need no look at keys, slots or limits are one call each, so one round trip
-- and one transaction. A function says nothing (is_done false, or no row) where the queues are not what its caller knew,
-- or where more than the plain path is wanted; nothing is written then, and the caller goes the long way.
--
-- Each statement of a function sees what was committed before it began, so what is read after the catalog's lock holds.
-- Plans are made once and walk indexes, whatever the statistics say or do not say.

-- A key whose message is final says so (seq 0), and the sweep finds it without a walk through the others.
UPDATE dedupe d SET seq = 0 WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.seq = d.seq AND m.id = d.id AND m.lane = d.lane);
CREATE INDEX dedupe_ended ON dedupe (until) WHERE seq = 0;

CREATE FUNCTION append_plain(
  known_version bigint, given_now bigint,
  ids bytea[], bodies bytea[],
  lanes bigint[], of_lane bigint, content_types smallint[], of_content_type smallint,  -- each its own, or NULL and one for all
  delays bigint[], of_delay bigint, priorities smallint[], of_priority smallint,
  keys text[], header_texts bytea[], ends_in bigint[], retries integer[],              -- each its own, or NULL for none
  asked_lanes bigint[], message_rooms bigint[], byte_rooms bigint[],  -- lanes whose depth is to be summed, and what may lie there
  group_writer bytea, group_number bigint,
  words text,  -- for those who listen, told with the COMMIT; or NULL
  OUT is_done boolean, OUT now_ms bigint, OUT asked_messages bigint[], OUT asked_bytes bigint[]
) LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan TO off SET enable_hashjoin TO off SET enable_mergejoin TO off
SET plan_cache_mode TO force_generic_plan SET jit TO off
AS $$
DECLARE
  version bigint;
  is_far boolean;
  held text;
  new_seq bigint;
BEGIN
  held := pg_advisory_xact_lock_shared(hashtextextended(current_schema(), 0));
  SELECT coalesce(given_now, (extract(epoch FROM clock_timestamp()) * 1000)::bigint), s.catalog_version
    INTO now_ms, version FROM store s;
  is_done := version = known_version;
  IF is_done AND cardinality(asked_lanes) > 0 THEN
    SELECT array_agg(c.messages ORDER BY a.place), array_agg(c.bytes ORDER BY a.place),
           bool_and(c.messages <= a.message_room AND c.bytes <= a.byte_room)
      INTO asked_messages, asked_bytes, is_far
      FROM unnest(asked_lanes, message_rooms, byte_rooms) WITH ORDINALITY AS a (lane, message_room, byte_room, place)
      CROSS JOIN LATERAL (SELECT coalesce(sum(n.messages), 0)::bigint AS messages, coalesce(sum(n.bytes), 0)::bigint AS bytes
                          FROM counters n WHERE n.lane = a.lane) c;
    is_done := is_far;
  END IF;
  IF NOT is_done THEN
    RETURN;
  END IF;
  IF words IS NOT NULL THEN
    PERFORM pg_notify('conveyor:' || current_schema(), words);
  END IF;
  IF cardinality(ids) = 1 THEN  -- a lone send: four small statements are done sooner than a great one has begun
    INSERT INTO messages (seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key, headers,
      expires_at, max_retries)
    VALUES (nextval('message_seq'), of_lane, ids[1], bodies[1], of_content_type, now_ms, now_ms + of_delay, now_ms + of_delay,
      of_priority, keys[1], header_texts[1], now_ms + ends_in[1], retries[1])
    RETURNING seq INTO new_seq;
    INSERT INTO ready (lane, shelf, priority, ready_at, seq, claims, releases, crashes)
    VALUES (of_lane, 0, of_priority, now_ms + of_delay, new_seq, 0, 0, 0);
    INSERT INTO receipts (writer, number, committed_at) VALUES (group_writer, group_number, now_ms)
    ON CONFLICT (writer) DO UPDATE SET number = excluded.number, committed_at = excluded.committed_at;
    INSERT INTO counters (lane, messages, bytes) VALUES (of_lane, 1, octet_length(bodies[1]));
    RETURN;
  END IF;
  WITH draft AS MATERIALIZED (
    SELECT nextval('message_seq') AS seq, d.* FROM (
      SELECT u.id, u.body, coalesce(u.lane, of_lane) AS lane, coalesce(u.content_type, of_content_type) AS content_type,
        now_ms + coalesce(u.delay, of_delay) AS ready_at, coalesce(u.priority, of_priority) AS priority,
        u.key, u.headers, u.ends_in, u.max_retries
      FROM unnest(ids, bodies, lanes, content_types, delays, priorities, keys, header_texts, ends_in, retries)
        WITH ORDINALITY
        AS u (id, body, lane, content_type, delay, priority, key, headers, ends_in, max_retries, place)
      ORDER BY u.place
    ) d
  ), message AS (
    INSERT INTO messages (seq, lane, id, body, content_type, sent_at, ready_at, first_ready_at, priority, key, headers,
      expires_at, max_retries)
    SELECT d.seq, d.lane, d.id, d.body, d.content_type, now_ms, d.ready_at, d.ready_at, d.priority, d.key,
      d.headers, now_ms + d.ends_in, d.max_retries FROM draft d
  ), put AS (
    INSERT INTO ready (lane, shelf, priority, ready_at, seq, claims, releases, crashes)
    SELECT d.lane, 0, d.priority, d.ready_at, d.seq, 0, 0, 0 FROM draft d
  ), receipt AS (
    INSERT INTO receipts (writer, number, committed_at) VALUES (group_writer, group_number, now_ms)
    ON CONFLICT (writer) DO UPDATE SET number = excluded.number, committed_at = excluded.committed_at
  )
  INSERT INTO counters (lane, messages, bytes)
  SELECT d.lane, count(*), sum(octet_length(d.body)) FROM draft d GROUP BY d.lane;
END $$;

CREATE FUNCTION claim_plain(
  known_version bigint, given_now bigint, claiming_owner bigint, of_lane bigint, levels smallint[],
  after_at bigint, after_seq bigint, most integer
) RETURNS TABLE (
  now_ms bigint, next_ready_at bigint, has_suspects boolean, level smallint,
  seq bigint, ready_at bigint, claims integer, releases integer, crashes integer, id bytea, body bytea,
  content_type smallint, sent_at bigint, key text, headers bytea, expires_at bigint, first_ready_at bigint
) LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan TO off SET enable_hashjoin TO off SET enable_mergejoin TO off
SET plan_cache_mode TO force_generic_plan SET jit TO off
AS $$
#variable_conflict use_column
DECLARE
  version bigint;
  wanted integer := most;
  got integer;
  held text;
BEGIN
  held := set_config('synchronous_commit', 'off', true);
  held := pg_advisory_xact_lock_shared(hashtextextended(current_schema(), 0));
  SELECT coalesce(given_now, (extract(epoch FROM clock_timestamp()) * 1000)::bigint), s.catalog_version
    INTO now_ms, version FROM store s, owners o
    WHERE o.owner = claiming_owner FOR KEY SHARE OF o;  -- a reaper waits, and finds the new leases
  IF NOT FOUND OR version <> known_version THEN
    RETURN;
  END IF;
  SELECT min(n.ready_at), coalesce(bool_or(s.is_there), false) INTO next_ready_at, has_suspects
    FROM unnest(levels) AS p (priority) LEFT JOIN LATERAL (
      SELECT r.ready_at FROM ready r
      WHERE r.lane = of_lane AND r.shelf = 0 AND r.priority = p.priority AND r.ready_at > now_ms
      ORDER BY r.ready_at LIMIT 1) n ON true LEFT JOIN LATERAL (
      SELECT true AS is_there FROM ready r
      WHERE r.lane = of_lane AND r.shelf = 1 AND r.priority = p.priority AND r.ready_at <= now_ms LIMIT 1) s ON true;
  FOREACH level IN ARRAY levels LOOP
    RETURN QUERY
    WITH head AS MATERIALIZED (
      SELECT r.ctid FROM ready r
      WHERE r.lane = of_lane AND r.shelf = 0 AND r.priority = level AND r.ready_at <= now_ms
        AND (r.ready_at, r.seq) > (after_at, after_seq)
      ORDER BY r.ready_at, r.seq LIMIT wanted FOR UPDATE SKIP LOCKED
    ), taken AS (
      DELETE FROM ready WHERE ctid = ANY (ARRAY(SELECT ctid FROM head))
      RETURNING seq, ready_at, claims, releases, crashes
    ), found AS MATERIALIZED (
      SELECT t.seq, t.ready_at, t.claims, t.releases, t.crashes, m.id, m.body, m.content_type, m.sent_at, m.key,
        m.headers, m.expires_at, m.first_ready_at
      FROM taken t CROSS JOIN LATERAL (SELECT * FROM messages WHERE seq = t.seq OFFSET 0) m
    ), put AS (
      INSERT INTO leased (owner, seq, lane, claims, releases, crashes, suspect, size)
      SELECT claiming_owner, f.seq, of_lane, f.claims + 1, f.releases, f.crashes, false, octet_length(f.body) FROM found f
    )
    SELECT now_ms, next_ready_at, has_suspects, level, f.* FROM found f ORDER BY f.ready_at, f.seq;
    GET DIAGNOSTICS got = ROW_COUNT;
    wanted := wanted - got;
    EXIT WHEN wanted = 0;
  END LOOP;
  IF wanted = most THEN  -- nobody to say it beside
    level := NULL;
    RETURN NEXT;
  END IF;
END $$;

-- LEASED -> DONE. The fence: another claim of the message has another owner or a higher `claims`. What is acked twice is
-- gone the second time, and not counted, so a call whose answer was lost is simply made again.
CREATE FUNCTION ack_plain(
  known_version bigint, acking_owner bigint, acked_seqs bigint[], acked_claims integer[], dead_lanes bigint[],
  OUT is_done boolean, OUT lost bigint[]
) LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan TO off SET enable_hashjoin TO off SET enable_mergejoin TO off
SET plan_cache_mode TO force_generic_plan SET jit TO off
AS $$
DECLARE
  ended_seqs bigint[];
  held text;
BEGIN
  held := pg_advisory_xact_lock_shared(hashtextextended(current_schema(), 0));
  SELECT s.catalog_version = known_version INTO is_done FROM store s;
  IF NOT is_done THEN
    RETURN;
  END IF;
  WITH ended AS (
    DELETE FROM leased WHERE ctid = ANY (ARRAY(
      SELECT l.ctid FROM unnest(acked_seqs, acked_claims) AS a (seq, claims) CROSS JOIN LATERAL (
        SELECT ctid FROM leased WHERE owner = acking_owner AND seq = a.seq AND claims = a.claims OFFSET 0) l))
    RETURNING seq, lane, size
  ), gone AS (
    DELETE FROM messages WHERE seq = ANY (ARRAY(SELECT e.seq FROM ended e)) RETURNING lane, seq, dedupe
  ), released AS (
    UPDATE dedupe d SET seq = 0 FROM gone g
    WHERE g.dedupe IS NOT NULL AND d.lane = g.lane AND d.key = g.dedupe AND d.seq = g.seq
  ), forgotten AS (
    DELETE FROM dead_letters WHERE lane = ANY (dead_lanes) AND seq = ANY (ARRAY(SELECT e.seq FROM ended e))
  ), counted AS (
    INSERT INTO counters (lane, messages, bytes)
    SELECT e.lane, -count(*), -sum(e.size) FROM ended e
    WHERE EXISTS (SELECT 1 FROM queues q WHERE q.lane = e.lane)  -- not if it was purged meanwhile
    GROUP BY e.lane
  )
  SELECT array_agg(e.seq) INTO ended_seqs FROM ended e;
  lost := '{}';
  IF coalesce(cardinality(ended_seqs), 0) < cardinality(acked_seqs) THEN
    lost := ARRAY(SELECT m.seq FROM messages m WHERE m.seq = ANY (acked_seqs)
                  AND m.seq <> ALL (coalesce(ended_seqs, '{}'))
                  AND EXISTS (SELECT 1 FROM queues q WHERE q.lane = m.lane));
  END IF;
END $$;
