-- What a cleanup finds, deletes and keeps, a batch at a time.

-- name: place_hold
INSERT INTO concierge_holds (id, kind, subject, reason, placed_by, placed_at)
VALUES (:id, :kind, :subject, :reason, :by, :now);

-- name: lift_hold
UPDATE concierge_holds SET lifted_by = :by, lifted_at = :now WHERE id = :id AND lifted_at IS NULL;

-- name: list_holds
SELECT id, kind, subject, reason, placed_by, placed_at, lifted_by, lifted_at FROM concierge_holds
ORDER BY lifted_at IS NOT NULL, placed_at DESC, id;

-- name: add_archive
INSERT INTO concierge_archives (key, target, rows, bytes, sha256, first_at, last_at, archived_at)
VALUES (:key, :target, :rows, :bytes, :sha256, :first, :last, :now)
ON CONFLICT (key) DO UPDATE SET archived_at = excluded.archived_at;

-- name: list_archives
SELECT key, target, rows, bytes, sha256, first_at, last_at, archived_at FROM concierge_archives
ORDER BY archived_at DESC, key LIMIT :limit;

-- name: old_messages
-- Of those that nothing changes any more, the oldest; none that somebody holds.
SELECT id FROM concierge_messages m
WHERE created_at < :before AND updated_at < :before AND state IN ('sent', 'delivered', 'failed', 'bounced', 'cancelled')
  AND NOT EXISTS (SELECT 1 FROM concierge_holds h WHERE h.lifted_at IS NULL AND (h.kind = 'all'
    OR (h.kind = 'message' AND h.subject = m.id) OR (h.kind = 'recipient' AND h.subject = m.recipient COLLATE NOCASE)
    OR (h.kind = 'user' AND h.subject IN (m.created_by, m.reviewed_by))))
ORDER BY created_at, id LIMIT :limit;

-- name: count_old_messages
-- Those that are old enough, and how many of them somebody holds.
SELECT count(*), coalesce(sum(EXISTS (SELECT 1 FROM concierge_holds h WHERE h.lifted_at IS NULL AND (h.kind = 'all'
    OR (h.kind = 'message' AND h.subject = m.id) OR (h.kind = 'recipient' AND h.subject = m.recipient COLLATE NOCASE)
    OR (h.kind = 'user' AND h.subject IN (m.created_by, m.reviewed_by))))), 0)
FROM concierge_messages m
WHERE created_at < :before AND updated_at < :before
  AND state IN ('sent', 'delivered', 'failed', 'bounced', 'cancelled');

-- name: drop_message
-- Only as it was archived, and if nobody has placed a hold on it since.
DELETE FROM concierge_messages
WHERE id = :id AND updated_at = :updated_at AND state = :state
  AND NOT EXISTS (SELECT 1 FROM concierge_holds h WHERE h.lifted_at IS NULL AND (h.kind = 'all'
    OR (h.kind = 'message' AND h.subject = concierge_messages.id)
    OR (h.kind = 'recipient' AND h.subject = concierge_messages.recipient COLLATE NOCASE)
    OR (h.kind = 'user' AND h.subject IN (concierge_messages.created_by, concierge_messages.reviewed_by))));

-- name: drop_history
DELETE FROM concierge_history WHERE message = :message;

-- name: old_records
-- The trail goes from its beginning on, so that the rest is still a chain: up to the first that somebody holds.
SELECT number, at, actor, role, address, action, target, result, hash,
  EXISTS (SELECT 1 FROM concierge_holds h WHERE h.lifted_at IS NULL AND (h.kind = 'all'
    OR (h.kind = 'user' AND h.subject = a.actor)
    OR (h.kind IN ('user', 'message', 'export') AND h.subject = a.target)))
FROM concierge_audit a ORDER BY number LIMIT :limit;

-- name: count_held_records
-- Up to this number; a hold may have come since they were archived.
SELECT count(*) FROM concierge_audit a WHERE number <= :number AND EXISTS (
  SELECT 1 FROM concierge_holds h WHERE h.lifted_at IS NULL AND (h.kind = 'all'
    OR (h.kind = 'user' AND h.subject = a.actor)
    OR (h.kind IN ('user', 'message', 'export') AND h.subject = a.target)));

-- name: count_old_records
-- Those that would go, and those that are as old and stay behind one that somebody holds.
WITH stop (number) AS (
  SELECT min(number) FROM concierge_audit a WHERE at >= :before OR EXISTS (
    SELECT 1 FROM concierge_holds h WHERE h.lifted_at IS NULL AND (h.kind = 'all'
      OR (h.kind = 'user' AND h.subject = a.actor)
      OR (h.kind IN ('user', 'message', 'export') AND h.subject = a.target))))
SELECT coalesce(sum(number < coalesce(stop, 9223372036854775807)), 0),
  coalesce(sum(number >= coalesce(stop, 9223372036854775807)), 0)
FROM (SELECT a.number, (SELECT number FROM stop) AS stop FROM concierge_audit a WHERE at < :before);

-- name: holds_on_messages
SELECT kind, subject FROM concierge_holds
WHERE lifted_at IS NULL AND kind IN ('all', 'message', 'recipient', 'user', 'export');
