-- Schema 1: studies, trials, jobs, workers.
--
-- Instants are microseconds since 1970-01-01T00:00:00Z. A float is stored as its 64 bits: alone as a BIGINT, several
-- in a BYTEA, little endian. Ids are never used again.

CREATE TABLE study (
    id              BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name            TEXT    NOT NULL UNIQUE,
    request_id      TEXT    NOT NULL UNIQUE,
    state           TEXT    NOT NULL CHECK (state IN ('preparing', 'active', 'paused', 'confirming', 'finished', 'cancelled', 'failed', 'archived')),
    reason          TEXT    NOT NULL,            -- why it is in that state; may be empty
    config          TEXT    NOT NULL,            -- JSON
    pin             TEXT,                        -- JSON; NULL until the first describe job or trial decides it
    description     TEXT,                        -- JSON; NULL until the model was described, and without a model
    revision        BIGINT  NOT NULL CHECK (revision >= 1),  -- the newest one taken
    config_revision BIGINT  NOT NULL CHECK (config_revision BETWEEN 1 AND revision),
    next_number     BIGINT  NOT NULL CHECK (next_number >= 0),
    next_turn       BIGINT  NOT NULL CHECK (next_turn >= 0),
    created_at      BIGINT  NOT NULL
);

-- Written once, never changed.
CREATE TABLE distribution (
    id              BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    study_id        BIGINT  NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    body            BYTEA   NOT NULL             -- JSON, as UTF-8
);

-- By hash: a body may be longer than an index entry can be.
CREATE UNIQUE INDEX distribution_once ON distribution (study_id, sha256(body));

CREATE TABLE trial (
    id                BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    study_id          BIGINT  NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    number            BIGINT  NOT NULL CHECK (number >= 0),
    state             TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'complete', 'pruned', 'fail')),
    origin            TEXT    NOT NULL CHECK (origin IN ('sampled', 'default', 'engine_fit', 'enqueued', 'client')),
    fixed             BYTEA   NOT NULL,          -- packed values of a queue entry; empty for a fresh trial
    params            BYTEA   NOT NULL,          -- packed (name, distribution id, internal value); empty while waiting
    objective_values  BYTEA   NOT NULL,          -- floats
    constraint_values BYTEA   NOT NULL,          -- floats; feasible when all are <= 0
    fail_kind         TEXT,                      -- NULL unless it failed
    fail_message      TEXT,                      -- NULL when fail_kind is
    job_id            BIGINT,                    -- the job that leases it (no reference: that one refers here); NULL when held or not started
    attempt           BIGINT  NOT NULL CHECK (attempt >= 0),  -- the job's current attempt; 0 without a job
    turn              BIGINT CHECK (turn >= 0), -- NULL until it was started
    seen              BIGINT,                    -- NULL until it was started
    sampler           TEXT    NOT NULL,          -- version of the sampler; empty when none was asked
    revision          BIGINT  NOT NULL,          -- of the newest change
    started_revision  BIGINT,                    -- NULL until it was started
    ended_revision    BIGINT,                    -- NULL until it ended
    created_at        BIGINT  NOT NULL,
    started_at        BIGINT,                    -- NULL until it was started
    ended_at          BIGINT,                    -- NULL until it ended
    seconds           BIGINT  NOT NULL,          -- a float: seconds it was measured
    step_count        BIGINT  NOT NULL CHECK (step_count BETWEEN 0 AND 100000),  -- of the current attempt
    created_by        TEXT,                      -- request that created it; NULL for those of a describe job
    created_index     BIGINT,                    -- its place within that request; NULL when created_by is
    started_by        TEXT,                      -- request that started it; NULL until then
    started_index     BIGINT,                    -- its place within that request; NULL when started_by is
    UNIQUE (study_id, number),
    UNIQUE (study_id, turn),
    UNIQUE (study_id, created_by, created_index),
    UNIQUE (study_id, started_by, started_index),
    CHECK ((fail_kind IS NULL) = (fail_message IS NULL)),
    CHECK (fail_kind IS NULL OR state = 'fail'),
    CHECK ((state IN ('complete', 'pruned', 'fail')) = (ended_revision IS NOT NULL AND ended_at IS NOT NULL)),
    CHECK (state <> 'running' OR (turn IS NOT NULL AND started_revision IS NOT NULL)),
    CHECK (state <> 'waiting' OR turn IS NULL)
);

CREATE INDEX trial_by_revision ON trial (study_id, revision);
CREATE INDEX trial_by_state ON trial (study_id, state, number);

CREATE TABLE job (
    id              BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    study_id        BIGINT  NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL CHECK (kind IN ('describe', 'trial', 'comparison')),
    state           TEXT    NOT NULL CHECK (state IN ('open', 'leased', 'done')),
    trial_id        BIGINT  REFERENCES trial (id) ON DELETE CASCADE,  -- NULL unless kind is trial
    spec            TEXT,                        -- JSON: what to compare; NULL otherwise
    result          TEXT,                        -- JSON; NULL until it ended, and for a trial
    attempt         BIGINT  NOT NULL CHECK (attempt >= 0),  -- the newest; 0 before the first
    worker          TEXT,                        -- holds or last held the lease; NULL before the first
    expires_at      BIGINT,                      -- NULL unless leased
    ttl             BIGINT  NOT NULL,            -- microseconds a lease runs; 0 before the first
    lease_ended     BOOLEAN NOT NULL,  -- the lease was ended before its time
    created_at      BIGINT  NOT NULL,
    CHECK ((kind = 'trial') = (trial_id IS NOT NULL)),
    CHECK ((state = 'leased') = (expires_at IS NOT NULL))
);

CREATE INDEX job_by_study ON job (study_id, id);
CREATE INDEX job_by_trial ON job (trial_id) WHERE trial_id IS NOT NULL;
CREATE INDEX job_open ON job (study_id, kind, id) WHERE state <> 'done';
CREATE INDEX job_leased ON job (expires_at) WHERE state = 'leased';
CREATE INDEX job_leased_to ON job (worker) WHERE state = 'leased';

CREATE TABLE attempt (
    job_id          BIGINT  NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    attempt         BIGINT  NOT NULL CHECK (attempt >= 1),
    worker          TEXT    NOT NULL,
    secret          BIGINT  NOT NULL,            -- the random bits of its lease token
    state           TEXT    NOT NULL CHECK (state IN ('open', 'finished', 'released', 'lost')),
    started_at      BIGINT  NOT NULL,
    ended_at        BIGINT,                      -- NULL while open
    detail          TEXT,                        -- JSON: samples, settings, engine, stderr tail; NULL without
    PRIMARY KEY (job_id, attempt),
    CHECK ((state = 'open') = (ended_at IS NULL))
);

-- Intermediate values. Those of an older attempt stay, and count no more.
CREATE TABLE step (
    trial_id        BIGINT  NOT NULL REFERENCES trial (id) ON DELETE CASCADE,
    attempt         BIGINT  NOT NULL,            -- 0 for a held trial
    step            BIGINT  NOT NULL CHECK (step >= 0),
    value           BIGINT  NOT NULL,            -- a float
    stop            BOOLEAN NOT NULL,  -- the pruner's verdict
    PRIMARY KEY (trial_id, attempt, step)
);

-- Whole rounds of a comparison.
CREATE TABLE round (
    job_id          BIGINT  NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    round           BIGINT  NOT NULL CHECK (round >= 0),
    attempt         BIGINT  NOT NULL,            -- which attempt measured it
    cells           TEXT    NOT NULL,            -- JSON
    PRIMARY KEY (job_id, round)
);

-- Keys and values are texts of others, kept byte for byte.
CREATE TABLE study_attribute (
    study_id        BIGINT  NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL CHECK (kind IN ('user', 'system')),
    key             BYTEA   NOT NULL,
    value           BYTEA   NOT NULL
);

CREATE UNIQUE INDEX study_attribute_once ON study_attribute (study_id, kind, sha256(key));

CREATE TABLE trial_attribute (
    trial_id        BIGINT  NOT NULL REFERENCES trial (id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL CHECK (kind IN ('user', 'system')),
    key             BYTEA   NOT NULL,
    value           BYTEA   NOT NULL
);

CREATE UNIQUE INDEX trial_attribute_once ON trial_attribute (trial_id, kind, sha256(key));

CREATE TABLE worker (
    id              TEXT    COLLATE "C" PRIMARY KEY,
    name            TEXT    NOT NULL,
    labels          TEXT    NOT NULL,            -- JSON
    inventory       TEXT    NOT NULL,            -- JSON
    executors       TEXT    NOT NULL,            -- JSON
    version         TEXT    NOT NULL,
    draining        BOOLEAN NOT NULL,
    registered_at   BIGINT  NOT NULL,
    last_seen       BIGINT  NOT NULL
);
