-- Keys by which programs act for a person. The secret is stored as SHA-256 only; scopes and address ranges are words.
CREATE TABLE api_keys (
    id             TEXT PRIMARY KEY,
    user_id        TEXT NOT NULL REFERENCES users (id),
    name           TEXT NOT NULL,
    secret_hash    BYTEA NOT NULL,
    scopes         TEXT NOT NULL,
    addresses      TEXT NOT NULL,
    created_us     BIGINT NOT NULL,
    expires_us     BIGINT NOT NULL,
    revoked_us     BIGINT,
    last_used_us   BIGINT,
    last_used_from TEXT,
    CHECK (expires_us > created_us)
);
CREATE INDEX api_keys_by_user ON api_keys (user_id, id);
