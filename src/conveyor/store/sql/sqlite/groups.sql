-- name: read_group
SELECT id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms,
  deadline_at, ended_at
FROM groups WHERE id = :id;

-- name: insert_group
INSERT INTO groups (id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms,
  expires_at, on_complete)
VALUES (:id, :name, 'starting', :on_failure, 0, 0, 0, 0, 0, 0, :now, :deadline_ms, :expires_at, :on_complete);

-- name: add_to_group
UPDATE groups SET total = total + :nodes, unsent = unsent + :unsent, has_edges = max(has_edges, :has_edges) WHERE id = :id;

-- name: launch_group
UPDATE groups SET state = 'running', deadline_at = :now + deadline_ms, expires_at = NULL WHERE id = :id
RETURNING id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms,
  deadline_at, ended_at;

-- name: insert_node
INSERT INTO group_nodes (id, group_id, place, queue, job, state, waits_for, takes)
VALUES (:id, :group, :place, :queue, :job, :state, :waits_for, :takes);

-- name: insert_edge
INSERT INTO group_edges (group_id, parent, child) VALUES (:group, :parent, :child);

-- name: insert_node_draft
INSERT INTO group_drafts (group_id, place, draft) VALUES (:group, :place, :draft);

-- name: end_node
-- A member is counted once: its state says so.
UPDATE group_nodes SET state = :state, ended_at = :now
WHERE id = :id AND state IN ('waiting', 'ready', 'sent', 'ending')
RETURNING group_id, place;

-- name: count_members
UPDATE groups SET succeeded = succeeded + :succeeded, failed = failed + :failed, cancelled = cancelled + :cancelled,
  unsent = unsent - :unsent
WHERE id = :id AND ended_at IS NULL
RETURNING id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms,
  deadline_at, ended_at;

-- name: free_children
-- Of those that come after a member that has ended, one less is to be waited for.
UPDATE group_nodes SET waits_for = waits_for - 1, state = CASE WHEN waits_for = 1 AND state = 'waiting' THEN 'ready' ELSE state END
WHERE group_id = :group AND place IN (SELECT child FROM group_edges WHERE group_id = :group AND parent = :parent)
RETURNING id, place, queue, takes;

-- name: read_node_draft
SELECT draft FROM group_drafts WHERE group_id = :group AND place = :place;

-- name: write_node_draft
UPDATE group_drafts SET draft = :draft WHERE group_id = :group AND place = :place;

-- name: list_node_drafts
SELECT group_id, place, draft FROM group_drafts WHERE (group_id, place) > (:group, :place)
ORDER BY group_id, place LIMIT :limit;

-- name: edit_node_draft
UPDATE group_drafts SET draft = :draft WHERE group_id = :group AND place = :place AND draft = :was;

-- name: ready_nodes
SELECT n.id, n.place, n.queue, d.draft
FROM group_nodes n CROSS JOIN group_drafts d ON d.group_id = n.group_id AND d.place = n.place
WHERE n.group_id = :group AND n.state = 'ready' ORDER BY n.place LIMIT :limit;

-- name: mark_node
UPDATE group_nodes SET state = :state WHERE id = :id AND state IN ('ready', 'sent');

-- name: drop_node_draft
DELETE FROM group_drafts WHERE group_id = :group AND place = :place;

-- name: drop_unsent
-- What was not sent never will be.
UPDATE group_nodes SET state = 'cancelled', ended_at = :now WHERE group_id = :group AND state IN ('waiting', 'ready');

-- name: drop_drafts
DELETE FROM group_drafts WHERE group_id = :group;

-- name: set_group_state
UPDATE groups SET state = :state WHERE id = :id
RETURNING id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms,
  deadline_at, ended_at;

-- name: sent_nodes
SELECT id FROM group_nodes WHERE group_id = :group AND state = 'sent' ORDER BY place LIMIT :limit;

-- name: end_group
UPDATE groups SET state = :state, ended_at = :now, expires_at = :expires_at WHERE id = :id AND ended_at IS NULL
RETURNING id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms,
  deadline_at, ended_at, on_complete;

-- name: list_groups
SELECT id, name, state, on_failure, has_edges, total, unsent, succeeded, failed, cancelled, created_at, deadline_ms,
  deadline_at, ended_at
FROM groups WHERE id < :before AND name = coalesce(:name, name) AND state = coalesce(:state, state)
ORDER BY id DESC LIMIT :limit;

-- name: list_members
SELECT id, group_id, place, queue, job, state, ended_at FROM group_nodes
WHERE group_id = :group AND place > :after AND state = coalesce(:state, state) ORDER BY place LIMIT :limit;

-- name: read_member
SELECT id, group_id, place, queue, job, state, ended_at FROM group_nodes WHERE id = :id;

-- name: due_groups
-- Those that are overdue, are to end, or have members that nobody has sent.
SELECT id FROM groups
WHERE ended_at IS NULL AND deadline_at IS NOT NULL
  AND (deadline_at <= :now OR state IN ('cancelling', 'failing')
    OR EXISTS (SELECT 1 FROM group_nodes n WHERE n.group_id = groups.id AND n.state = 'ready'))
ORDER BY id LIMIT :limit;

-- name: expired_groups
SELECT id FROM groups WHERE expires_at <= :now ORDER BY expires_at LIMIT 1;

-- name: sweep_nodes
DELETE FROM group_nodes WHERE id IN (SELECT id FROM group_nodes WHERE group_id = :group LIMIT :limit);

-- name: sweep_drafts
DELETE FROM group_drafts WHERE (group_id, place) IN
  (SELECT group_id, place FROM group_drafts WHERE group_id = :group LIMIT :limit);

-- name: drop_edges
DELETE FROM group_edges WHERE group_id = :group;

-- name: drop_group
DELETE FROM groups WHERE id = :id;
