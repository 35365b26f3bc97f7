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
    reported_at BIGINT NOT NULL,
    state TEXT NOT NULL,
    -- absent while it is open
    refund BIGINT,
    decision TEXT,
    decided_by TEXT REFERENCES users (id),
    decided_at BIGINT,
    CONSTRAINT disputes_state CHECK (state IN ('open', 'decided')),
    CONSTRAINT disputes_decision CHECK ((state = 'decided') = (refund IS NOT NULL AND decision IS NOT NULL AND decided_at IS NOT NULL)),
    CONSTRAINT disputes_refund CHECK (refund IS NULL OR refund >= 0)
);
CREATE UNIQUE INDEX disputes_by_rental ON disputes (rental_id);
-- GET /disputes and GET /admin/disputes
CREATE INDEX disputes_by_consumer ON disputes (consumer, id);
CREATE INDEX disputes_by_provider ON disputes (provider, id);
CREATE INDEX disputes_by_state ON disputes (state, id);

CREATE FUNCTION disputes_decided_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'disputes are kept';
    END IF;
    IF OLD.state <> 'open' OR NEW.state <> 'decided' OR NEW.id <> OLD.id OR NEW.rental_id <> OLD.rental_id OR NEW.reason <> OLD.reason
        OR NEW.statement <> OLD.statement OR NEW.evidence <> OLD.evidence OR NEW.reported_at <> OLD.reported_at
        OR NEW.consumer IS DISTINCT FROM OLD.consumer OR NEW.provider <> OLD.provider THEN
        RAISE EXCEPTION 'a dispute is decided once, and nothing else of it changes';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER disputes_decided_once BEFORE UPDATE OR DELETE ON disputes
FOR EACH ROW EXECUTE FUNCTION disputes_decided_once();

-- What both parties, and whoever decides, add in words.
CREATE TABLE dispute_statements (
    dispute_id TEXT NOT NULL REFERENCES disputes (id),
    -- from 1
    place BIGINT NOT NULL,
    author TEXT NOT NULL,
    statement TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (dispute_id, place),
    CONSTRAINT dispute_statements_author CHECK (author IN ('consumer', 'provider', 'admin'))
);
CREATE FUNCTION dispute_statements_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was said is kept';
END
$$;
CREATE TRIGGER dispute_statements_kept BEFORE UPDATE OR DELETE ON dispute_statements
FOR EACH ROW EXECUTE FUNCTION dispute_statements_kept();

-- What was given back of what a rental was charged, and who bore it: by the decision of a dispute, or as goodwill. `ref` is what the
-- transfers refer to.
CREATE TABLE given_back (
    ref TEXT NOT NULL PRIMARY KEY,
    rental_id TEXT NOT NULL REFERENCES rentals (id),
    kind TEXT NOT NULL,
    of_provider BIGINT NOT NULL,
    of_fee BIGINT NOT NULL,
    goodwill BIGINT NOT NULL,
    reason TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT given_back_kind CHECK (kind IN ('dispute', 'goodwill')),
    CONSTRAINT given_back_parts CHECK (of_provider >= 0 AND of_fee >= 0 AND goodwill >= 0 AND of_provider + of_fee + goodwill > 0)
);
CREATE INDEX given_back_by_rental ON given_back (rental_id, created_at);
CREATE FUNCTION given_back_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was given back is kept';
END
$$;
CREATE TRIGGER given_back_kept BEFORE UPDATE OR DELETE ON given_back
FOR EACH ROW EXECUTE FUNCTION given_back_kept();
