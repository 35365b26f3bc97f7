-- Tickets that open one stream into a rental, each once and for half a minute; only their hashes.
CREATE TABLE stream_tickets (
    hash BYTEA NOT NULL PRIMARY KEY,
    rental_id TEXT NOT NULL,
    verb TEXT NOT NULL CONSTRAINT stream_tickets_verb CHECK (verb IN ('exec', 'logs', 'files', 'port')),
    port BIGINT, -- of the verb port
    bearer TEXT NOT NULL CONSTRAINT stream_tickets_bearer CHECK (bearer IN ('session', 'key', 'token', 'wallet')),
    who TEXT NOT NULL, -- an account or a wallet
    via TEXT NOT NULL, -- a session or a key
    expires_us BIGINT NOT NULL
);
-- the task that forgets: those that nobody used
CREATE INDEX stream_tickets_by_age ON stream_tickets (expires_us);
