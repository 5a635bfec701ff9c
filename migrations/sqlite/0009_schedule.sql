-- Which study a worker serves next.

ALTER TABLE study ADD COLUMN priority INTEGER NOT NULL DEFAULT 0; -- higher ones first
ALTER TABLE study ADD COLUMN max_parallel INTEGER CHECK (max_parallel >= 1); -- trials leased at once; NULL: no limit
ALTER TABLE study ADD COLUMN served_at INTEGER NOT NULL DEFAULT 0; -- when a job of it was leased last; 0: never
ALTER TABLE study ADD COLUMN selector TEXT; -- CEL over the facts of a worker; NULL: every worker will do
