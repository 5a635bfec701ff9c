-- Clients of Optuna's protocol sample themselves: a study of theirs has no search space, its trials bring distributions.
--
-- A trial that such a client adds when it has ended may lack the time of its end: trial.ended_at is then the smallest
-- integer.

-- Trials above an id.
CREATE INDEX trial_by_id ON trial (study_id, id);

-- The distribution with which clients named a parameter first. All later ones of the study are compatible with it.
CREATE TABLE parameter (
    study_id        INTEGER NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    name            BLOB    NOT NULL,
    distribution_id INTEGER NOT NULL REFERENCES distribution (id) ON DELETE CASCADE,
    PRIMARY KEY (study_id, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX parameter_by_distribution ON parameter (distribution_id);
