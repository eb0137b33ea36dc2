-- name: due_since
-- What a sweep would clear, and since when its oldest waits. Some of it walks whole tables: for the doctor only.
SELECT 'dead owners', min(lease_until) FROM owners WHERE lease_until <= :now
UNION ALL
SELECT 'pulled leases', min(lease_until) FROM leased WHERE lease_until IS NOT NULL AND lease_until <= :now
UNION ALL
SELECT 'dedupe keys', min(until) FROM dedupe d
WHERE until <= :now AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.seq = d.seq AND m.id = d.id AND m.lane = d.lane)
UNION ALL
SELECT 'receipts', min(committed_at) + :receipt_ms FROM receipts WHERE committed_at <= :now - :receipt_ms
UNION ALL
SELECT 'kv entries', min(expires_at) FROM kv WHERE expires_at IS NOT NULL AND expires_at <= :now;

-- name: count_purged
-- Never more than :limit.
SELECT count(*) FROM (SELECT 1 FROM purged p CROSS JOIN ready r ON r.lane = p.lane LIMIT :limit);

-- name: count_dead_letters
SELECT q.name, count(*) FROM dead_letters d CROSS JOIN queues q ON q.lane = d.lane GROUP BY q.name;
