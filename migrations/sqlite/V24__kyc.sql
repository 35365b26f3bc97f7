-- Who somebody is, as far as the operator wants it proven. A submission is a case; the newest is where its account stands.
CREATE TABLE kyc_cases (
    id              TEXT NOT NULL PRIMARY KEY,
    user_id         TEXT NOT NULL REFERENCES users (id),
    -- 'manual' or the hosted provider's name
    provider        TEXT NOT NULL,
    state           TEXT NOT NULL,
    -- why it was rejected or what was noted; absent until then
    reason          TEXT,
    created_at      INTEGER NOT NULL,
    -- absent while pending
    decided_at      INTEGER,
    -- until when an approval holds; absent for others
    expires_at      INTEGER,
    -- when the documents are deleted; absent while they are needed and once they are gone
    documents_until INTEGER,
    version         INTEGER NOT NULL,
    CONSTRAINT kyc_cases_state CHECK (state IN ('pending', 'approved', 'rejected', 'expired')),
    CONSTRAINT kyc_cases_decided CHECK ((state = 'pending') = (decided_at IS NULL)),
    CONSTRAINT kyc_cases_expires CHECK (state <> 'approved' OR expires_at IS NOT NULL)
) STRICT;
-- one case at a time
CREATE UNIQUE INDEX kyc_cases_live ON kyc_cases (user_id) WHERE state IN ('pending', 'approved');
-- where an account stands; the administrators' list; the timer
CREATE INDEX kyc_cases_by_user ON kyc_cases (user_id, id);
CREATE INDEX kyc_cases_by_state ON kyc_cases (state, id);
CREATE INDEX kyc_cases_expiring ON kyc_cases (expires_at) WHERE state = 'approved';
CREATE INDEX kyc_cases_documents_due ON kyc_cases (documents_until) WHERE documents_until IS NOT NULL;

-- Documents, sealed under a key of their own.
CREATE TABLE kyc_documents (
    id         TEXT NOT NULL PRIMARY KEY,
    case_id    TEXT NOT NULL REFERENCES kyc_cases (id),
    kind       TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sealed     BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX kyc_documents_by_case ON kyc_documents (case_id, id);

-- Webhooks of hosted providers that were taken in: each once. Older ones are refused by their timestamp.
CREATE TABLE kyc_events (
    provider    TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (provider, event_id)
) STRICT;
CREATE INDEX kyc_events_by_age ON kyc_events (received_at);
