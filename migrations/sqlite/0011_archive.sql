-- A study that has ended may be put away, and be fetched back as what it was. Instants are microseconds since 1970.

ALTER TABLE study ADD COLUMN archived_from TEXT CHECK (archived_from IN ('finished', 'cancelled', 'failed')); -- NULL unless archived
ALTER TABLE study ADD COLUMN unarchived_at INTEGER; -- NULL until it was fetched back
