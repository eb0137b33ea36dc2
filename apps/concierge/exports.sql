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
  AND (:kind IS NULL OR action = :kind OR substr(action, 1, length(:kinds)) = :kinds);

-- name: audit_page
SELECT number, '', number, at, actor, role, address, action, target, result,
  coalesce((SELECT lower(hex(before.hash)) FROM concierge_audit before WHERE before.number = a.number - 1),
    (SELECT lower(hex(hash)) FROM concierge_heads WHERE name = 'audit_start' AND concierge_heads.number = a.number - 1), ''),
  lower(hex(hash))
FROM concierge_audit a
WHERE number > :after AND number <= :last AND at >= :since AND at < :until AND (:user IS NULL OR actor = :user)
  AND (:kind IS NULL OR action = :kind OR substr(action, 1, length(:kinds)) = :kinds)
ORDER BY number LIMIT :limit;
