-- name: find_renamed
-- The queue that had this name, if none has it now.
SELECT name FROM queues WHERE instr(former, ' ' || :name || ' ') > 0;

-- name: forget_former
-- Somebody takes the name: what still comes under it is that one's.
UPDATE queues SET former = replace(former, ' ' || :name || ' ', ' ') WHERE instr(former, ' ' || :name || ' ') > 0;

-- name: rename_queue
UPDATE queues SET name = :new, first_name = coalesce(first_name, name), former = former || name || ' ',
  version = version + 1, modified_at = :now
WHERE name = :name;

-- name: rename_windows
UPDATE rates SET queue = :new WHERE queue = :name;

-- name: rename_tick
UPDATE ticks SET queue = :new WHERE queue = :name;

-- name: rename_origins
UPDATE dead_letters SET origin_queue = :new WHERE origin_queue = :name;

-- name: rename_jobs
UPDATE jobs SET queue = :new WHERE queue = :name;

-- name: rename_nodes
UPDATE group_nodes SET queue = :new WHERE queue = :name;

-- name: rings_or_delivers
-- An app's own queue: what it finds there it looks for under this name.
SELECT EXISTS (SELECT 1 FROM alarms WHERE queue = :name), EXISTS (SELECT 1 FROM deliveries WHERE queue = :name);

-- name: holds_letters
-- What is sealed for this queue, by how it begins: what waits, what runs, what died, and what is kept of jobs.
SELECT EXISTS (SELECT 1 FROM ready r CROSS JOIN messages m ON m.seq = r.seq
               WHERE r.lane = :lane AND substr(m.body, 1, length(:mark)) = :mark)
    OR EXISTS (SELECT 1 FROM leased l CROSS JOIN messages m ON m.seq = l.seq
               WHERE l.lane = :lane AND substr(m.body, 1, length(:mark)) = :mark)
    OR EXISTS (SELECT 1 FROM dead_letters d CROSS JOIN messages m ON m.seq = d.seq
               WHERE d.origin_queue = :name AND d.lane IN (SELECT lane FROM queues) AND substr(m.body, 1, length(:mark)) = :mark)
    OR EXISTS (SELECT 1 FROM jobs WHERE queue = :name AND substr(result, 1, length(:mark)) = :mark)
    OR EXISTS (SELECT 1 FROM steps s CROSS JOIN jobs j ON j.id = s.id
               WHERE j.queue = :name AND substr(s.value, 1, length(:mark)) = :mark)
    OR EXISTS (SELECT 1 FROM job_events e CROSS JOIN jobs j ON j.id = e.id
               WHERE j.queue = :name AND substr(e.payload, 1, length(:mark)) = :mark);

-- name: drafts_of_queue
-- Members of groups that are still to be sent there.
SELECT d.group_id, d.place, d.draft
FROM group_nodes n CROSS JOIN group_drafts d ON d.group_id = n.group_id AND d.place = n.place
WHERE n.queue = :name AND n.state IN ('waiting', 'ready');

-- name: last_messages
-- What is still to tell of the end of a group.
SELECT id, on_complete FROM groups WHERE on_complete IS NOT NULL AND ended_at IS NULL;

-- name: write_last_message
UPDATE groups SET on_complete = :on_complete WHERE id = :id;
