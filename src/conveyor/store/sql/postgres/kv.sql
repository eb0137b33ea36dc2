-- name: kv_get
SELECT key, value, metadata, expires_at FROM kv
WHERE namespace = :namespace AND key = :key AND (expires_at IS NULL OR expires_at > :now);

-- name: kv_put
INSERT INTO kv (namespace, key, value, metadata, expires_at)
VALUES (:namespace, :key, :value, :metadata, :expires_at)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, metadata = excluded.metadata,
  expires_at = excluded.expires_at;

-- name: kv_delete
DELETE FROM kv WHERE namespace = :namespace AND key = :key RETURNING expires_at;

-- name: kv_list
-- The byte ff stands in no UTF-8, so it ends the range of a prefix.
SELECT key, metadata, expires_at FROM kv
WHERE namespace = :namespace AND key > :after AND key >= :prefix
  AND key < :prefix || '\xff'::bytea
  AND (expires_at IS NULL OR expires_at > :now)
ORDER BY key LIMIT :limit;
