-- Who may call, and who changed what. Instants are microseconds since 1970.

CREATE TABLE access_token (
    id              BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name            TEXT    NOT NULL,
    role            TEXT    NOT NULL CHECK (role IN ('admin', 'client', 'worker')),
    hash            BYTEA   NOT NULL UNIQUE CHECK (length(hash) = 32),  -- SHA-256 of the token
    created_at      BIGINT  NOT NULL,
    created_by      TEXT    NOT NULL,            -- name of a token; empty when it was made without one
    expires_at      BIGINT,                     -- NULL: never
    last_used_at    BIGINT,                     -- NULL: never
    revoked_at      BIGINT                       -- NULL while in force
);

CREATE UNIQUE INDEX access_token_by_name ON access_token (name) WHERE revoked_at IS NULL;

CREATE TABLE audit (
    id              BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at              BIGINT  NOT NULL,
    actor           TEXT    NOT NULL,            -- name of a token; empty when none was asked for
    role            TEXT    CHECK (role IN ('admin', 'client', 'worker')),  -- NULL when none was asked for
    peer            TEXT    NOT NULL,            -- address of the caller, or local
    action          TEXT    NOT NULL,            -- the call
    subject         TEXT    NOT NULL             -- what it changed
);

CREATE INDEX audit_by_subject ON audit (subject, id);
CREATE INDEX audit_by_time ON audit (at);
