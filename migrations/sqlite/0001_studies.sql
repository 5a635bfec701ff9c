-- Schema 1: studies, trials, jobs, workers.
--
-- Instants are microseconds since 1970-01-01T00:00:00Z. A float is stored as its 64 bits: alone as an INTEGER, several
-- in a BLOB, little endian. Ids are never used again.

CREATE TABLE study (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    name            TEXT    NOT NULL UNIQUE,
    request_id      TEXT    NOT NULL UNIQUE,
    state           TEXT    NOT NULL CHECK (state IN ('preparing', 'active', 'paused', 'confirming', 'finished', 'cancelled', 'failed', 'archived')),
    reason          TEXT    NOT NULL,            -- why it is in that state; may be empty
    config          TEXT    NOT NULL,            -- JSON
    pin             TEXT,                        -- JSON; NULL until the first describe job or trial decides it
    description     TEXT,                        -- JSON; NULL until the model was described, and without a model
    revision        INTEGER NOT NULL CHECK (revision >= 1),  -- the newest one taken
    config_revision INTEGER NOT NULL CHECK (config_revision BETWEEN 1 AND revision),
    next_number     INTEGER NOT NULL CHECK (next_number >= 0),
    next_turn       INTEGER NOT NULL CHECK (next_turn >= 0),
    created_at      INTEGER NOT NULL
) STRICT;

-- Written once, never changed.
CREATE TABLE distribution (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    study_id        INTEGER NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    body            BLOB    NOT NULL,            -- JSON, as UTF-8
    UNIQUE (study_id, body)
) STRICT;

CREATE TABLE trial (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    study_id          INTEGER NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    number            INTEGER NOT NULL CHECK (number >= 0),
    state             TEXT    NOT NULL CHECK (state IN ('waiting', 'running', 'complete', 'pruned', 'fail')),
    origin            TEXT    NOT NULL CHECK (origin IN ('sampled', 'default', 'engine_fit', 'enqueued', 'client')),
    fixed             BLOB    NOT NULL,          -- packed values of a queue entry; empty for a fresh trial
    params            BLOB    NOT NULL,          -- packed (name, distribution id, internal value); empty while waiting
    objective_values  BLOB    NOT NULL,          -- floats
    constraint_values BLOB    NOT NULL,          -- floats; feasible when all are <= 0
    fail_kind         TEXT,                      -- NULL unless it failed
    fail_message      TEXT,                      -- NULL when fail_kind is
    job_id            INTEGER,                   -- the job that leases it (no reference: that one refers here); NULL when held or not started
    attempt           INTEGER NOT NULL CHECK (attempt >= 0),  -- the job's current attempt; 0 without a job
    turn              INTEGER CHECK (turn >= 0), -- NULL until it was started
    seen              INTEGER,                   -- NULL until it was started
    sampler           TEXT    NOT NULL,          -- version of the sampler; empty when none was asked
    revision          INTEGER NOT NULL,          -- of the newest change
    started_revision  INTEGER,                   -- NULL until it was started
    ended_revision    INTEGER,                   -- NULL until it ended
    created_at        INTEGER NOT NULL,
    started_at        INTEGER,                   -- NULL until it was started
    ended_at          INTEGER,                   -- NULL until it ended
    seconds           INTEGER NOT NULL,          -- a float: seconds it was measured
    step_count        INTEGER NOT NULL CHECK (step_count BETWEEN 0 AND 100000),  -- of the current attempt
    created_by        TEXT,                      -- request that created it; NULL for those of a describe job
    created_index     INTEGER,                   -- its place within that request; NULL when created_by is
    started_by        TEXT,                      -- request that started it; NULL until then
    started_index     INTEGER,                   -- its place within that request; NULL when started_by is
    UNIQUE (study_id, number),
    UNIQUE (study_id, turn),
    UNIQUE (study_id, created_by, created_index),
    UNIQUE (study_id, started_by, started_index),
    CHECK ((fail_kind IS NULL) = (fail_message IS NULL)),
    CHECK (fail_kind IS NULL OR state = 'fail'),
    CHECK ((state IN ('complete', 'pruned', 'fail')) = (ended_revision IS NOT NULL AND ended_at IS NOT NULL)),
    CHECK (state <> 'running' OR (turn IS NOT NULL AND started_revision IS NOT NULL)),
    CHECK (state <> 'waiting' OR turn IS NULL)
) STRICT;

CREATE INDEX trial_by_revision ON trial (study_id, revision);
CREATE INDEX trial_by_state ON trial (study_id, state, number);

CREATE TABLE job (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    study_id        INTEGER NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL CHECK (kind IN ('describe', 'trial', 'comparison')),
    state           TEXT    NOT NULL CHECK (state IN ('open', 'leased', 'done')),
    trial_id        INTEGER REFERENCES trial (id) ON DELETE CASCADE,  -- NULL unless kind is trial
    spec            TEXT,                        -- JSON: what to compare; NULL otherwise
    result          TEXT,                        -- JSON; NULL until it ended, and for a trial
    attempt         INTEGER NOT NULL CHECK (attempt >= 0),  -- the newest; 0 before the first
    worker          TEXT,                        -- holds or last held the lease; NULL before the first
    expires_at      INTEGER,                     -- NULL unless leased
    ttl             INTEGER NOT NULL,            -- microseconds a lease runs; 0 before the first
    lease_ended     INTEGER NOT NULL CHECK (lease_ended IN (0, 1)),  -- the lease was ended before its time
    created_at      INTEGER NOT NULL,
    CHECK ((kind = 'trial') = (trial_id IS NOT NULL)),
    CHECK ((state = 'leased') = (expires_at IS NOT NULL))
) STRICT;

CREATE INDEX job_by_study ON job (study_id, id);
CREATE INDEX job_by_trial ON job (trial_id) WHERE trial_id IS NOT NULL;
CREATE INDEX job_open ON job (study_id, kind, id) WHERE state <> 'done';
CREATE INDEX job_leased ON job (expires_at) WHERE state = 'leased';
CREATE INDEX job_leased_to ON job (worker) WHERE state = 'leased';

CREATE TABLE attempt (
    job_id          INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    attempt         INTEGER NOT NULL CHECK (attempt >= 1),
    worker          TEXT    NOT NULL,
    secret          INTEGER NOT NULL,            -- the random bits of its lease token
    state           TEXT    NOT NULL CHECK (state IN ('open', 'finished', 'released', 'lost')),
    started_at      INTEGER NOT NULL,
    ended_at        INTEGER,                     -- NULL while open
    detail          TEXT,                        -- JSON: samples, settings, engine, stderr tail; NULL without
    PRIMARY KEY (job_id, attempt),
    CHECK ((state = 'open') = (ended_at IS NULL))
) STRICT;

-- Intermediate values. Those of an older attempt stay, and count no more.
CREATE TABLE step (
    trial_id        INTEGER NOT NULL REFERENCES trial (id) ON DELETE CASCADE,
    attempt         INTEGER NOT NULL,            -- 0 for a held trial
    step            INTEGER NOT NULL CHECK (step >= 0),
    value           INTEGER NOT NULL,            -- a float
    stop            INTEGER NOT NULL CHECK (stop IN (0, 1)),  -- the pruner's verdict
    PRIMARY KEY (trial_id, attempt, step)
) STRICT, WITHOUT ROWID;

-- Whole rounds of a comparison.
CREATE TABLE round (
    job_id          INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    round           INTEGER NOT NULL CHECK (round >= 0),
    attempt         INTEGER NOT NULL,            -- which attempt measured it
    cells           TEXT    NOT NULL,            -- JSON
    PRIMARY KEY (job_id, round)
) STRICT;

-- Keys and values are texts of others, kept byte for byte.
CREATE TABLE study_attribute (
    study_id        INTEGER NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL CHECK (kind IN ('user', 'system')),
    key             BLOB    NOT NULL,
    value           BLOB    NOT NULL,
    PRIMARY KEY (study_id, kind, key)
) STRICT;

CREATE TABLE trial_attribute (
    trial_id        INTEGER NOT NULL REFERENCES trial (id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL CHECK (kind IN ('user', 'system')),
    key             BLOB    NOT NULL,
    value           BLOB    NOT NULL,
    PRIMARY KEY (trial_id, kind, key)
) STRICT;

CREATE TABLE worker (
    id              TEXT    PRIMARY KEY NOT NULL,
    name            TEXT    NOT NULL,
    labels          TEXT    NOT NULL,            -- JSON
    inventory       TEXT    NOT NULL,            -- JSON
    executors       TEXT    NOT NULL,            -- JSON
    version         TEXT    NOT NULL,
    draining        INTEGER NOT NULL CHECK (draining IN (0, 1)),
    registered_at   INTEGER NOT NULL,
    last_seen       INTEGER NOT NULL
) STRICT;
