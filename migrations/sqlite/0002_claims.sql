-- A claim may be repeated: the same request gets the same lease.

ALTER TABLE attempt ADD COLUMN claimed_by TEXT; -- request that claimed it; NULL for a trial's first, which its start leased

CREATE UNIQUE INDEX attempt_by_request ON attempt (claimed_by) WHERE claimed_by IS NOT NULL;
