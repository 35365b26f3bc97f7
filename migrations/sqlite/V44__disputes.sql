-- A consumer says that a rental wasn't what they paid for: at `reported_at` its meter stops. One dispute per rental, decided once. What it
-- was about is kept as it was seen at that moment: nothing of a row changes but that it is decided.
CREATE TABLE disputes (
    id TEXT NOT NULL PRIMARY KEY,
    rental_id TEXT NOT NULL REFERENCES rentals (id),
    -- absent for a payer without an account
    consumer TEXT REFERENCES users (id),
    provider TEXT NOT NULL REFERENCES users (id),
    reason TEXT NOT NULL,
    statement TEXT NOT NULL,
    -- JSON
    evidence TEXT NOT NULL,
    reported_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    -- absent while it is open
    refund INTEGER,
    decision TEXT,
    decided_by TEXT REFERENCES users (id),
    decided_at INTEGER,
    CONSTRAINT disputes_state CHECK (state IN ('open', 'decided')),
    CONSTRAINT disputes_decision CHECK ((state = 'decided') = (refund IS NOT NULL AND decision IS NOT NULL AND decided_at IS NOT NULL)),
    CONSTRAINT disputes_refund CHECK (refund IS NULL OR refund >= 0)
) STRICT;
CREATE UNIQUE INDEX disputes_by_rental ON disputes (rental_id);
-- GET /disputes and GET /admin/disputes
CREATE INDEX disputes_by_consumer ON disputes (consumer, id);
CREATE INDEX disputes_by_provider ON disputes (provider, id);
CREATE INDEX disputes_by_state ON disputes (state, id);

CREATE TRIGGER disputes_decided_once BEFORE UPDATE ON disputes
WHEN OLD.state <> 'open' OR NEW.state <> 'decided' OR NEW.id <> OLD.id OR NEW.rental_id <> OLD.rental_id OR NEW.reason <> OLD.reason
    OR NEW.statement <> OLD.statement OR NEW.evidence <> OLD.evidence OR NEW.reported_at <> OLD.reported_at
    OR NEW.consumer IS NOT OLD.consumer OR NEW.provider <> OLD.provider
BEGIN
    SELECT RAISE(ABORT, 'a dispute is decided once, and nothing else of it changes');
END;
CREATE TRIGGER disputes_no_delete BEFORE DELETE ON disputes
BEGIN
    SELECT RAISE(ABORT, 'disputes are kept');
END;

-- What both parties, and whoever decides, add in words.
CREATE TABLE dispute_statements (
    dispute_id TEXT NOT NULL REFERENCES disputes (id),
    -- from 1
    place INTEGER NOT NULL,
    author TEXT NOT NULL,
    statement TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (dispute_id, place),
    CONSTRAINT dispute_statements_author CHECK (author IN ('consumer', 'provider', 'admin'))
) STRICT;
CREATE TRIGGER dispute_statements_no_update BEFORE UPDATE ON dispute_statements
BEGIN
    SELECT RAISE(ABORT, 'what was said is kept');
END;
CREATE TRIGGER dispute_statements_no_delete BEFORE DELETE ON dispute_statements
BEGIN
    SELECT RAISE(ABORT, 'what was said is kept');
END;

-- What was given back of what a rental was charged, and who bore it: by the decision of a dispute, or as goodwill. `ref` is what the
-- transfers refer to.
CREATE TABLE given_back (
    ref TEXT NOT NULL PRIMARY KEY,
    rental_id TEXT NOT NULL REFERENCES rentals (id),
    kind TEXT NOT NULL,
    of_provider INTEGER NOT NULL,
    of_fee INTEGER NOT NULL,
    goodwill INTEGER NOT NULL,
    reason TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    CONSTRAINT given_back_kind CHECK (kind IN ('dispute', 'goodwill')),
    CONSTRAINT given_back_parts CHECK (of_provider >= 0 AND of_fee >= 0 AND goodwill >= 0 AND of_provider + of_fee + goodwill > 0)
) STRICT;
CREATE INDEX given_back_by_rental ON given_back (rental_id, created_at);
CREATE TRIGGER given_back_no_update BEFORE UPDATE ON given_back
BEGIN
    SELECT RAISE(ABORT, 'what was given back is kept');
END;
CREATE TRIGGER given_back_no_delete BEFORE DELETE ON given_back
BEGIN
    SELECT RAISE(ABORT, 'what was given back is kept');
END;
