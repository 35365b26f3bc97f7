-- A second factor by TOTP (RFC 6238). sealed is the shared secret, encrypted: unlike a password's hash it must be read again.
-- last_step is the time step of the code used last: a code works once.
CREATE TABLE second_factors (
    user_id      TEXT PRIMARY KEY REFERENCES users (id),
    sealed       BYTEA NOT NULL,
    created_us   BIGINT NOT NULL,
    -- absent: begun, and not in force yet
    confirmed_us BIGINT,
    last_step    BIGINT NOT NULL
);

-- SHA-256 of codes for who has lost their device; a used one is gone.
CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id),
    hash    BYTEA NOT NULL,
    PRIMARY KEY (user_id, hash)
);
