-- Clients of Optuna's protocol sample themselves: a study of theirs has no search space, its trials bring distributions.
--
-- A trial that such a client adds when it has ended may lack the time of its end: trial.ended_at is then the smallest
-- integer.

-- Trials above an id.
CREATE INDEX trial_by_id ON trial (study_id, id);

-- The distribution with which clients named a parameter first. All later ones of the study are compatible with it.
CREATE TABLE parameter (
    study_id        BIGINT  NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    name            BYTEA   NOT NULL,
    distribution_id BIGINT  NOT NULL REFERENCES distribution (id) ON DELETE CASCADE
);

-- Names may be longer than an index takes.
CREATE UNIQUE INDEX parameter_once ON parameter (study_id, sha256(name));

CREATE INDEX parameter_by_distribution ON parameter (distribution_id);
