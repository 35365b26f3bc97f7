-- Invoices: one for each settled rental that was paid, and credit notes for what was given back of it. A document is never changed; it is
-- corrected by another one. `invoice_series` holds the last number of each series and year: whoever issues holds that row until the
-- transaction ends, so numbers have no gaps.
CREATE TABLE invoice_series (
    series TEXT NOT NULL,
    year BIGINT NOT NULL,
    last BIGINT NOT NULL,
    PRIMARY KEY (series, year)
);

CREATE TABLE invoices (
    id TEXT NOT NULL PRIMARY KEY,
    series TEXT NOT NULL,
    year BIGINT NOT NULL,
    number BIGINT NOT NULL,
    kind TEXT NOT NULL,
    rental_id TEXT NOT NULL REFERENCES rentals (id),
    -- absent for a payer without an account
    consumer TEXT REFERENCES users (id),
    provider TEXT NOT NULL REFERENCES users (id),
    asset TEXT NOT NULL,
    total BIGINT NOT NULL,
    -- the document that this one corrects
    corrects TEXT REFERENCES invoices (id),
    -- what a credit note is about
    given_back TEXT REFERENCES given_back (ref),
    -- JSON: all that is written on it
    content TEXT NOT NULL,
    issued_at BIGINT NOT NULL,
    CONSTRAINT invoices_kind CHECK (kind IN ('invoice', 'credit_note')),
    CONSTRAINT invoices_number CHECK (number > 0 AND total >= 0),
    CONSTRAINT invoices_credit CHECK ((kind = 'credit_note') = (given_back IS NOT NULL)),
    CONSTRAINT invoices_corrects CHECK (kind = 'invoice' OR corrects IS NOT NULL)
);
CREATE UNIQUE INDEX invoices_by_number ON invoices (series, year, number);
CREATE UNIQUE INDEX invoices_by_given_back ON invoices (given_back) WHERE given_back IS NOT NULL;
-- GET /invoices, and the documents of a rental
CREATE INDEX invoices_by_consumer ON invoices (consumer, id);
CREATE INDEX invoices_by_provider ON invoices (provider, id);
CREATE INDEX invoices_by_rental ON invoices (rental_id, id);
-- checking those that are new
CREATE INDEX invoices_by_age ON invoices (issued_at);

-- Which transfers a document is about; a transfer is on one document.
CREATE TABLE invoice_transfers (
    transfer_id TEXT NOT NULL PRIMARY KEY REFERENCES transfers (id),
    invoice_id TEXT NOT NULL REFERENCES invoices (id)
);
CREATE INDEX invoice_transfers_by_invoice ON invoice_transfers (invoice_id, transfer_id);

CREATE FUNCTION invoices_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a document is never changed: issue another one';
END
$$;
CREATE TRIGGER invoices_kept BEFORE UPDATE OR DELETE ON invoices
FOR EACH ROW EXECUTE FUNCTION invoices_kept();
CREATE FUNCTION invoice_transfers_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what a document is about is never changed';
END
$$;
CREATE TRIGGER invoice_transfers_kept BEFORE UPDATE OR DELETE ON invoice_transfers
FOR EACH ROW EXECUTE FUNCTION invoice_transfers_kept();
CREATE FUNCTION invoice_series_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.last <> OLD.last + 1 OR NEW.series <> OLD.series OR NEW.year <> OLD.year THEN
        RAISE EXCEPTION 'a series moves by one';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER invoice_series_forward BEFORE UPDATE OR DELETE ON invoice_series
FOR EACH ROW EXECUTE FUNCTION invoice_series_moves();

-- absent until its invoice was issued, and again when more was paid after that
ALTER TABLE rentals ADD COLUMN invoiced_at BIGINT;
-- rentals that wait for their invoice
CREATE INDEX rentals_to_invoice ON rentals (settled_at) WHERE settled_at IS NOT NULL AND invoiced_at IS NULL AND paid > 0;
