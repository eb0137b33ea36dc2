-- name: kv_get
SELECT key, value, metadata, expires_at FROM kv_entries
WHERE namespace = :namespace AND key = :key AND (expires_at IS NULL OR expires_at > :now);

-- name: kv_put
INSERT INTO kv_entries (namespace, key, value, metadata, expires_at)
VALUES (:namespace, :key, :value, :metadata, :expires_at);

-- name: kv_delete
DELETE FROM kv WHERE namespace = :namespace AND key = :key RETURNING expires_at;

-- name: kv_list
SELECT key, metadata, expires_at FROM kv
WHERE namespace = :namespace AND key > :after AND key >= :prefix AND key < :prefix || char(1114111)
  AND substr(key, 1, length(:prefix)) = :prefix
  AND (expires_at IS NULL OR expires_at > :now)
ORDER BY key LIMIT :limit;
