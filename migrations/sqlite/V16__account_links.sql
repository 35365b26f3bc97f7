-- One-time links that arrive by mail: hash is SHA-256 of the token; email is the address that the link was sent to, and
-- proves. A newer one of the same purpose replaces it.
CREATE TABLE account_links (
    hash       BLOB PRIMARY KEY,
    purpose    TEXT NOT NULL CHECK (purpose IN ('verify_email', 'change_email', 'reset_password')),
    user_id    TEXT NOT NULL REFERENCES users (id),
    email      TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL
) STRICT;
CREATE INDEX account_links_by_user ON account_links (user_id, purpose);

-- absent: nobody has shown that mail to the address reaches them
ALTER TABLE users ADD COLUMN email_verified_us INTEGER;

-- the list of somebody's sessions
CREATE INDEX sessions_live ON sessions (user_id, created_us) WHERE revoked_us IS NULL;
