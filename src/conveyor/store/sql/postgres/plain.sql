-- name: append_plain
SELECT is_done, now_ms, asked_messages, asked_bytes FROM :schema.append_plain(:known_version, :now, :ids, :bodies,
  :lanes, :lane, :content_types, :content_type, :delays, :delay, :priorities, :priority,
  :keys, :headers, :ends_in, :retries, :asked_lanes, :message_rooms, :byte_rooms,
  :writer, :number, :words);

-- name: append_many
-- The same; the ids, of 16 bytes each, come one after the other in one value.
SELECT is_done, now_ms, asked_messages, asked_bytes FROM :schema.append_plain(:known_version, :now,
  ARRAY(SELECT substring(:ids::bytea FROM place FOR 16) FROM generate_series(1, octet_length(:ids::bytea), 16) AS place),
  :bodies, :lanes, :lane, :content_types, :content_type, :delays, :delay, :priorities, :priority,
  :keys, :headers, :ends_in, :retries, :asked_lanes, :message_rooms, :byte_rooms,
  :writer, :number, :words);

-- name: claim_plain
SELECT now_ms, next_ready_at, has_suspects, level, seq, ready_at, claims, releases, crashes, id, body, content_type, sent_at,
  key, headers, expires_at, first_ready_at
FROM :schema.claim_plain(:known_version, :now, :owner, :lane, :levels, :after_at, :after_seq, :limit);

-- name: ack_plain
SELECT is_done, lost FROM :schema.ack_plain(:known_version, :owner, :seqs, :claims, :dead_lanes);

-- name: ack_jobs
SELECT is_done, lost FROM :schema.ack_jobs(:known_version, :owner, :seqs, :claims, :dead_lanes, :job_seqs, :ids, :names,
  :queues, :states, :enqueued_at, :started_at, :ended_at, :attempts, :workers, :results, :results_until, :expires_at);
