-- name: get_document
SELECT kind, name, body, version, created_at, modified_at FROM documents WHERE kind = :kind AND name = :name;

-- name: put_document
INSERT INTO documents (kind, name, body, version, created_at, modified_at)
VALUES (:kind, :name, :body, 1, :now, :now)
ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body, version = documents.version + 1, modified_at = excluded.modified_at
RETURNING kind, name, body, version, created_at, modified_at;

-- name: add_document
INSERT INTO documents (kind, name, body, version, created_at, modified_at)
VALUES (:kind, :name, :body, 1, :now, :now)
ON CONFLICT (kind, name) DO NOTHING
RETURNING kind, name, body, version, created_at, modified_at;

-- name: replace_document
UPDATE documents SET body = :body, version = version + 1, modified_at = :now
WHERE kind = :kind AND name = :name AND version = :version
RETURNING kind, name, body, version, created_at, modified_at;

-- name: delete_document
DELETE FROM documents WHERE kind = :kind AND name = :name AND version = coalesce(:version::bigint, version) RETURNING version;

-- name: list_documents
SELECT kind, name, body, version, created_at, modified_at FROM documents
WHERE kind = :kind AND name > :after AND name >= :prefix AND name < :prefix || chr(1114111)
  AND substr(name, 1, length(:prefix)) = :prefix
ORDER BY name LIMIT :limit;

-- name: lock_trail
-- Its number counts on, and nobody else gets one before COMMIT.
INSERT INTO documents (kind, name, body, version, created_at, modified_at)
VALUES (:kind, :name, '', 1, :now, :now)
ON CONFLICT (kind, name) DO UPDATE SET version = documents.version + 1, modified_at = excluded.modified_at
RETURNING version, body;

-- name: write_trail
UPDATE documents SET body = :body WHERE kind = :kind AND name = :name;
