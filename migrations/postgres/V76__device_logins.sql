-- Programs that a person signs in from another device: a code to confirm, redeemed once for an API key.
CREATE TABLE device_logins (
    device_hash BYTEA NOT NULL PRIMARY KEY,
    user_code TEXT NOT NULL UNIQUE,
    client_name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    days BIGINT NOT NULL,
    asked_from TEXT,
    asked_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    polled_us BIGINT,
    state TEXT NOT NULL CHECK (state IN ('open', 'approved', 'denied')),
    user_id TEXT REFERENCES users (id),
    session_id TEXT,
    CHECK (expires_us > asked_us)
);
CREATE INDEX device_logins_by_age ON device_logins (expires_us);
