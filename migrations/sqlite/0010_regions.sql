-- What went down under which configuration, from which unsafe regions are learned; and what a study samples no more.
-- Instants are microseconds since 1970.

CREATE TABLE incident (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    device_class    TEXT    NOT NULL,
    model_hash      TEXT    NOT NULL,
    kind            TEXT    NOT NULL CHECK (kind IN ('worker_lost', 'host_crash', 'crash')),
    worker          TEXT    NOT NULL,
    study_id        INTEGER NOT NULL,            -- no reference: it outlives the study
    study           TEXT    NOT NULL,            -- the name it had
    trial           INTEGER NOT NULL,            -- number
    attempt         INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    settings        TEXT    NOT NULL,            -- JSON: the whole configuration
    message         TEXT    NOT NULL,
    refuted         INTEGER NOT NULL CHECK (refuted IN (0, 1))  -- something at or beyond it was measured
) STRICT;

CREATE INDEX incident_by_class ON incident (device_class, model_hash, id);
CREATE INDEX incident_by_trial ON incident (study_id, trial, attempt);

ALTER TABLE study ADD COLUMN exclusions TEXT NOT NULL DEFAULT '[]'; -- JSON: regions and configurations, with the revisions at which they came and went
