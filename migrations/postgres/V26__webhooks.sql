-- Where people want to be told of their events: endpoints, their secrets (sealed), and what was or is to be delivered.
-- `due_at` is when the endpoint has something to send next: only endpoints are looked through for work, never deliveries, so that one with
-- a long backlog holds up nobody else. `lease_until` is how long somebody sends for it.
CREATE TABLE webhooks (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL REFERENCES users (id),
    -- which of the owner's places it takes; absent once it is deleted
    slot BIGINT,
    url TEXT NOT NULL,
    description TEXT NOT NULL,
    -- JSON: patterns of event kinds; none for all
    events TEXT NOT NULL,
    state TEXT NOT NULL,
    -- why it was disabled; absent unless it was
    disabled_reason TEXT,
    -- the first failure after the last success; absent while all is well
    failing_since BIGINT,
    -- attempts that failed since the last success
    failures BIGINT NOT NULL,
    -- absent when nothing waits
    due_at BIGINT,
    lease_until BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT webhooks_state CHECK (state IN ('active', 'paused', 'disabled', 'deleted')),
    CONSTRAINT webhooks_reason CHECK ((disabled_reason IS NULL) = (state <> 'disabled')),
    CONSTRAINT webhooks_slot CHECK ((slot IS NULL) = (state = 'deleted')),
    CONSTRAINT webhooks_failing CHECK ((failing_since IS NULL) = (failures = 0))
);
-- an owner has only so many places: counting first and inserting then would let two at once in
CREATE UNIQUE INDEX webhooks_by_slot ON webhooks (owner, slot) WHERE slot IS NOT NULL;
-- GET /webhooks
CREATE INDEX webhooks_by_owner ON webhooks (owner, id);
-- whose turn it is
CREATE INDEX webhooks_due ON webhooks (due_at) WHERE state = 'active' AND due_at IS NOT NULL;
-- forgetting the deleted ones
CREATE INDEX webhooks_deleted ON webhooks (updated_at) WHERE state = 'deleted';

-- An endpoint's secrets: the newest has no end, those before it still sign until theirs.
CREATE TABLE webhook_secrets (
    webhook_id TEXT NOT NULL REFERENCES webhooks (id),
    number BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    -- absent for the newest
    expires_at BIGINT,
    PRIMARY KEY (webhook_id, number)
);
CREATE UNIQUE INDEX webhook_secrets_newest ON webhook_secrets (webhook_id) WHERE expires_at IS NULL;

-- One event for one endpoint; body as it is sent, the same at every attempt.
CREATE TABLE webhook_deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    webhook_id TEXT NOT NULL REFERENCES webhooks (id),
    event_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_try_at BIGINT NOT NULL,
    -- of the last attempt; absent before the first, the status also where nothing answered
    tried_at BIGINT,
    took_ms BIGINT,
    status BIGINT,
    -- the beginning of the answer, or why there is none
    answer TEXT,
    created_at BIGINT NOT NULL,
    CONSTRAINT webhook_deliveries_state CHECK (state IN ('pending', 'delivered', 'failed'))
);
-- an event reaches an endpoint's list once, however often the stream is followed
CREATE UNIQUE INDEX webhook_deliveries_once ON webhook_deliveries (webhook_id, event_id);
-- what an endpoint has to send next
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_try_at) WHERE state = 'pending';
-- GET /webhooks/{id}/deliveries
CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook_id, id);
-- forgetting old ones
CREATE INDEX webhook_deliveries_by_age ON webhook_deliveries (created_at);

-- Up to which place of the stream events were handed to endpoints; the lock of whoever does it.
CREATE TABLE webhook_position (
    one BIGINT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    CONSTRAINT webhook_position_one CHECK (one = 1)
);
INSERT INTO webhook_position (one, seq) SELECT 1, seq FROM event_head;
