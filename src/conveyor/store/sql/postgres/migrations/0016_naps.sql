-- Vacuum takes its time: after a transaction that was open for ten minutes there are tens of millions of old versions, and
-- whoever takes them away at once takes a processor with him. No claim walks past them meanwhile. The pace is that at which
-- 40,000 messages a second make them, where nothing is in memory any more; where it is, some four times as much.
ALTER TABLE messages SET (autovacuum_vacuum_cost_delay = 20, autovacuum_vacuum_cost_limit = 1800);
ALTER TABLE ready SET (autovacuum_vacuum_cost_delay = 20, autovacuum_vacuum_cost_limit = 600);
ALTER TABLE leased SET (autovacuum_vacuum_cost_delay = 20, autovacuum_vacuum_cost_limit = 600);
