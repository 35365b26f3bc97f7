-- Who people are and how they stay signed in. Passwords and refresh tokens are stored as hashes only.
CREATE TABLE users (
    id            TEXT PRIMARY KEY,
    email         TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_us    BIGINT NOT NULL
);

CREATE TABLE user_roles (
    user_id    TEXT NOT NULL REFERENCES users (id),
    role       TEXT NOT NULL CHECK (role IN ('consumer', 'provider', 'admin')),
    granted_us BIGINT NOT NULL,
    PRIMARY KEY (user_id, role)
);

-- One login; the family of its refresh tokens.
CREATE TABLE sessions (
    id             TEXT PRIMARY KEY,
    user_id        TEXT NOT NULL REFERENCES users (id),
    created_us     BIGINT NOT NULL,
    ends_us        BIGINT NOT NULL,
    revoked_us     BIGINT,
    revoked_reason TEXT CHECK (revoked_reason IN ('logout', 'reuse', 'admin')),
    CHECK ((revoked_us IS NULL) = (revoked_reason IS NULL))
);
CREATE INDEX sessions_by_user ON sessions (user_id);

-- hash is SHA-256 of the token; a used one stays, so that its reuse is noticed.
CREATE TABLE refresh_tokens (
    hash       BYTEA PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    used_us    BIGINT
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);
