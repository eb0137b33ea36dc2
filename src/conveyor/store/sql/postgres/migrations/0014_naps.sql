-- Vacuum goes on at twice the pace at which 40,000 messages a second make old versions, and no faster: after a transaction
-- that was open for long there are tens of millions of them, and whoever takes them away at once takes a processor with him.
-- A claim does not walk past them meanwhile.
ALTER TABLE messages SET (autovacuum_vacuum_cost_delay = 2, autovacuum_vacuum_cost_limit = 250);
ALTER TABLE ready SET (autovacuum_vacuum_cost_delay = 2, autovacuum_vacuum_cost_limit = 80);
ALTER TABLE leased SET (autovacuum_vacuum_cost_delay = 2, autovacuum_vacuum_cost_limit = 80);
