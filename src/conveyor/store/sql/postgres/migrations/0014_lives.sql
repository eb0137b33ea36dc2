-- A message that dies and comes back begins anew; what is left of its lives before.
ALTER TABLE dead_letters ADD COLUMN max_retries integer;              -- its own in its queue of origin, for when it goes back
ALTER TABLE messages ADD COLUMN claims_before integer;                -- of them `ready` and `leased` count on; NULL is 0
