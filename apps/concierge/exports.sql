-- What exports read, a page at a time and in the order of a key, and how they stand.

-- name: messages_extent
SELECT count(*), max(created_at) FROM concierge_messages
WHERE created_at >= :since AND created_at < :until AND (:state IS NULL OR state = :state)
  AND (:user IS NULL OR created_by = :user) AND (:kind IS NULL OR channel = :kind);

-- name: messages_page
SELECT created_at, id, id, channel, recipient, subject, content, priority, state, version, send_at, attempt, error,
  provider, reference, created_by, reviewed_by, created_at, updated_at, sent_at, ended_at
FROM concierge_messages
WHERE (created_at, id) > (:after, :after_id) AND created_at <= :last AND created_at >= :since AND created_at < :until
  AND (:state IS NULL OR state = :state) AND (:user IS NULL OR created_by = :user)
  AND (:kind IS NULL OR channel = :kind)
ORDER BY created_at, id LIMIT :limit;

-- name: audit_extent
SELECT count(*), max(number) FROM concierge_audit
WHERE at >= :since AND at < :until AND (:user IS NULL OR actor = :user)
  AND (:kind IS NULL OR action GLOB :kind);

-- name: audit_page
SELECT number, '', number, at, actor, role, address, action, target, result,
  coalesce((SELECT lower(hex(before.hash)) FROM concierge_audit before WHERE before.number = a.number - 1),
    (SELECT lower(hex(hash)) FROM concierge_heads WHERE name = 'audit_start' AND concierge_heads.number = a.number - 1), ''),
  lower(hex(hash))
FROM concierge_audit a
WHERE number > :after AND number <= :last AND at >= :since AND at < :until AND (:user IS NULL OR actor = :user)
  AND (:kind IS NULL OR action GLOB :kind)
ORDER BY number LIMIT :limit;

-- name: add_export
INSERT INTO concierge_exports (id, user, filters, format, state, created_at, updated_at)
VALUES (:id, :user, :filters, :format, 'queued', :now, :now) ON CONFLICT (id) DO NOTHING;

-- name: find_export
SELECT id, user, filters, format, state, rows_done, rows_total, last, key, bytes, sha256, error, created_at, updated_at,
  ended_at, expires_at
FROM concierge_exports WHERE id = :id;

-- name: begin_export
UPDATE concierge_exports SET state = 'running', rows_done = 0, rows_total = coalesce(rows_total, :rows),
  last = coalesce(last, :last), error = NULL, updated_at = :now
WHERE id = :id AND state IN ('queued', 'running');

-- name: advance_export
UPDATE concierge_exports SET rows_done = :rows, updated_at = :now WHERE id = :id AND state = 'running';

-- name: finish_export
UPDATE concierge_exports SET state = 'ready', rows_done = :rows, rows_total = :rows, key = :key, bytes = :bytes,
  sha256 = :sha256, updated_at = :now, ended_at = :now, expires_at = :expires
WHERE id = :id AND state = 'running';

-- name: requeue_export
UPDATE concierge_exports SET state = 'queued', error = :error, updated_at = :now WHERE id = :id AND state = 'running';

-- name: fail_export
UPDATE concierge_exports SET state = 'failed', error = :error, updated_at = :now, ended_at = :now
WHERE id = :id AND state IN ('queued', 'running');

-- name: cancel_export
UPDATE concierge_exports SET state = 'cancelled', updated_at = :now, ended_at = :now
WHERE id = :id AND state IN ('queued', 'running');

-- name: expire_export
UPDATE concierge_exports SET state = 'expired', key = NULL, updated_at = :now WHERE id = :id AND state = 'ready';

-- name: ready_exports
-- Whose files are due, oldest first; one under a legal hold stays.
SELECT id, key FROM concierge_exports e
WHERE state = 'ready' AND expires_at <= :before AND id > :after AND NOT EXISTS (
  SELECT 1 FROM concierge_holds h WHERE h.lifted_at IS NULL
    AND (h.kind = 'all' OR (h.kind = 'export' AND h.subject = e.id) OR (h.kind = 'user' AND h.subject = e.user)))
ORDER BY id LIMIT :limit;

-- name: silent_exports
SELECT id FROM concierge_exports WHERE state = 'running' AND updated_at < :before ORDER BY id LIMIT :limit;
