-- What went down under which configuration, from which unsafe regions are learned; and what a study samples no more.
-- Instants are microseconds since 1970.

CREATE TABLE incident (
    id              BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    device_class    TEXT    NOT NULL,
    model_hash      TEXT    NOT NULL,
    kind            TEXT    NOT NULL CHECK (kind IN ('worker_lost', 'host_crash', 'crash')),
    worker          TEXT    NOT NULL,
    study_id        BIGINT  NOT NULL,            -- no reference: it outlives the study
    study           TEXT    NOT NULL,            -- the name it had
    trial           BIGINT  NOT NULL,            -- number
    attempt         BIGINT  NOT NULL,
    at              BIGINT  NOT NULL,
    settings        TEXT    NOT NULL,            -- JSON: the whole configuration
    message         TEXT    NOT NULL,
    refuted         BOOLEAN NOT NULL              -- something at or beyond it was measured
);

CREATE INDEX incident_by_class ON incident (device_class, model_hash, id);
CREATE INDEX incident_by_trial ON incident (study_id, trial, attempt);

ALTER TABLE study ADD COLUMN exclusions TEXT NOT NULL DEFAULT '[]'; -- JSON: regions and configurations, with the revisions at which they came and went
