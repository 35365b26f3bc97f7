-- Signing in with an account elsewhere (OpenID Connect): (issuer, subject) is who somebody is there; the address is only shown.
CREATE TABLE identities (
    id           TEXT PRIMARY KEY,
    user_id      TEXT NOT NULL REFERENCES users (id),
    provider     TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    -- absent when the issuer told none
    email        TEXT,
    created_us   BIGINT NOT NULL,
    last_used_us BIGINT NOT NULL,
    UNIQUE (issuer, subject)
);
-- store.rs: of_user
CREATE INDEX identities_by_user ON identities (user_id);

-- SHA-256 of attempts that were finished, until they can't be finished again anyway.
CREATE TABLE oidc_used (
    digest     BYTEA PRIMARY KEY,
    expires_us BIGINT NOT NULL
);
-- store.rs: use_up
CREATE INDEX oidc_used_by_expiry ON oidc_used (expires_us);
