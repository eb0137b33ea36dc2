-- name: read_delivery
SELECT d.id, d.endpoint, d.queue, d.event, d.state, d.message_id, d.created_at, d.modified_at, d.body,
       EXISTS (SELECT 1 FROM messages m JOIN queues q ON q.lane = m.lane WHERE m.id = d.message_id AND q.name = d.queue)
FROM deliveries d WHERE d.id = :id;

-- name: list_deliveries
SELECT d.id, d.endpoint, d.queue, d.event, d.state, d.message_id, d.created_at, d.modified_at, d.body,
       EXISTS (SELECT 1 FROM messages m JOIN queues q ON q.lane = m.lane WHERE m.id = d.message_id AND q.name = d.queue)
FROM deliveries d
WHERE d.id < :before AND (:state IS NULL OR d.state = :state)
ORDER BY d.id DESC LIMIT :limit;

-- name: list_deliveries_to
SELECT d.id, d.endpoint, d.queue, d.event, d.state, d.message_id, d.created_at, d.modified_at, d.body,
       EXISTS (SELECT 1 FROM messages m JOIN queues q ON q.lane = m.lane WHERE m.id = d.message_id AND q.name = d.queue)
FROM deliveries d
WHERE d.endpoint = :endpoint AND d.id < :before AND (:state IS NULL OR d.state = :state)
ORDER BY d.id DESC LIMIT :limit;

-- name: put_delivery
INSERT INTO deliveries (id, endpoint, queue, event, state, message_id, created_at, modified_at, body)
VALUES (:id, :endpoint, :queue, :event, :state, :message_id, :now, :now, :body)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, message_id = excluded.message_id,
  modified_at = excluded.modified_at, body = excluded.body;

-- name: write_delivery
UPDATE deliveries SET state = :state, modified_at = :now, body = :body WHERE id = :id AND message_id = :message_id;
