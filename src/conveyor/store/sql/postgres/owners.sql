-- name: insert_owner
INSERT INTO owners (owner, info, lease_until)
VALUES (coalesce(:owner, nextval('owner_seq')), :info, :lease_until) RETURNING owner;

-- name: find_owner
-- Held until the claim is committed, so that a reaper waits and finds the new leases. Heartbeats do not wait for it.
SELECT 1 FROM owners WHERE owner = :owner FOR KEY SHARE;

-- name: lock_owner
-- Waits for claims whose answer was lost and whose COMMIT is still on its way; no other begins meanwhile.
SELECT 1 FROM owners WHERE owner = :owner FOR UPDATE;

-- name: held_by_owner
-- Not locked: what is released of it is fenced by its claim.
SELECT seq, lane, claims FROM leased WHERE owner = :owner ORDER BY seq;

-- name: renew_owner
UPDATE owners SET lease_until = :lease_until WHERE owner = :owner RETURNING owner;

-- name: delete_owner
DELETE FROM owners WHERE owner = :owner RETURNING owner;

-- name: list_owners
SELECT owner, info, lease_until FROM owners ORDER BY owner;

-- name: expired_owners
SELECT owner FROM owners WHERE lease_until <= :now ORDER BY owner FOR UPDATE SKIP LOCKED;

-- name: lanes_of_owner
SELECT DISTINCT lane FROM leased WHERE owner = :owner ORDER BY lane;

-- name: leases_of_owner
SELECT seq, lane, claims, releases, crashes, suspect, size FROM leased WHERE owner = :owner ORDER BY seq FOR UPDATE;

-- name: slots_of_owner
SELECT lane FROM slots WHERE owner = :owner;

-- name: free_slots_of_owner
DELETE FROM slots WHERE owner = :owner;
