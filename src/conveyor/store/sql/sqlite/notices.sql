-- name: put_notice
INSERT INTO notices (origin, at, name, body) VALUES (:origin, :at, :name, :body);

-- name: drop_notices
DELETE FROM notices WHERE number <= (SELECT max(number) FROM notices) - :kept;

-- name: list_notices
SELECT number, origin, at, name, body FROM notices WHERE number > :after ORDER BY number LIMIT :limit;

-- name: last_notice
SELECT coalesce(max(number), 0) FROM notices;
