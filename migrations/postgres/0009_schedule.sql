-- Which study a worker serves next, and which token speaks for it.

ALTER TABLE study ADD COLUMN priority BIGINT NOT NULL DEFAULT 0; -- higher ones first
ALTER TABLE study ADD COLUMN max_parallel BIGINT CHECK (max_parallel >= 1); -- trials leased at once; NULL: no limit
ALTER TABLE study ADD COLUMN served_at BIGINT NOT NULL DEFAULT 0; -- when a job of it was leased last; 0: never
ALTER TABLE study ADD COLUMN selector TEXT; -- CEL over the facts of a worker; NULL: every worker will do

-- A study per class of workers: the parent has no trials, each child is an ordinary study.
ALTER TABLE study ADD COLUMN per TEXT; -- what tells workers apart, device or label:NAME; NULL unless it is parent or child
ALTER TABLE study ADD COLUMN parent_id BIGINT REFERENCES study (id) ON DELETE CASCADE; -- NULL unless it is a child
ALTER TABLE study ADD COLUMN class TEXT; -- which workers it is of; NULL unless it is a child

CREATE UNIQUE INDEX study_by_class ON study (parent_id, class) WHERE parent_id IS NOT NULL;

ALTER TABLE worker ADD COLUMN token_id BIGINT; -- of the worker's token that it registered with; NULL: any will do
