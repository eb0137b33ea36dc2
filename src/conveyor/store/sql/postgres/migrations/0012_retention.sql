-- What has ended is kept for as long as its queue's policy says, so each queue's oldest are found by themselves.
CREATE INDEX deliveries_history ON deliveries (queue, modified_at) WHERE state <> 'pending';
DROP INDEX deliveries_ended;
