-- name: get_document
-- As bytes, whatever somebody with a tool has made of them.
SELECT kind, name, CAST(body AS BLOB) AS body, version, created_at, modified_at FROM documents WHERE kind = :kind AND name = :name;

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
DELETE FROM documents WHERE kind = :kind AND name = :name AND version = coalesce(:version, version) RETURNING version;

-- name: list_documents
SELECT kind, name, CAST(body AS BLOB) AS body, version, created_at, modified_at FROM documents
WHERE kind = :kind AND name > :after AND name >= :prefix AND name < :prefix || char(1114111)
  AND substr(name, 1, length(:prefix)) = :prefix
ORDER BY name LIMIT :limit;
