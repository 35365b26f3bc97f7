-- Whose SSH keys open what: those of an account all that it rents, those of a rental that rental. Public keys, in the line that they came in.
CREATE TABLE ssh_keys (
    id           TEXT PRIMARY KEY,
    user_id      TEXT NOT NULL REFERENCES users (id),
    name         TEXT NOT NULL,
    public_key   TEXT NOT NULL,
    fingerprint  TEXT NOT NULL,
    created_us   BIGINT NOT NULL,
    last_used_us BIGINT, -- NULL: never
    UNIQUE (user_id, fingerprint)
);
-- somebody's keys in their order
CREATE INDEX ssh_keys_by_user ON ssh_keys (user_id, id);
CREATE TABLE rental_ssh_keys (
    rental_id   TEXT NOT NULL REFERENCES rentals (id),
    fingerprint TEXT NOT NULL,
    public_key  TEXT NOT NULL,
    place       BIGINT NOT NULL CHECK (place >= 0),
    PRIMARY KEY (rental_id, fingerprint)
);
