-- A mail is part of the change that it tells of: it is written in the same transaction and sent afterwards, by a task.
-- sealed is its text, encrypted since it may hold a one-time link; it is gone once the mail is sent or given up.
CREATE TABLE mail_outbox (
    id         TEXT PRIMARY KEY,
    recipient  TEXT NOT NULL,
    subject    TEXT NOT NULL,
    sealed     BYTEA,
    state      TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'given_up')),
    attempts   BIGINT NOT NULL CHECK (attempts >= 0),
    created_us BIGINT NOT NULL,
    -- the next attempt; while one is under way, when another may take over
    next_us    BIGINT NOT NULL,
    -- after this nobody needs it any more; absent: it is always of use
    expires_us BIGINT,
    done_us    BIGINT,
    last_error TEXT,
    CHECK ((state = 'queued') = (sealed IS NOT NULL)),
    CHECK ((state = 'queued') = (done_us IS NULL))
);
-- what is due, and what is old enough to be forgotten
CREATE INDEX mail_due ON mail_outbox (next_us) WHERE state = 'queued';
CREATE INDEX mail_done ON mail_outbox (done_us) WHERE state <> 'queued';
