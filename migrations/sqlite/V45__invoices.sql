-- Invoices: one for each settled rental that was paid, and credit notes for what was given back of it. A document is never changed; it is
-- corrected by another one. `invoice_series` holds the last number of each series and year: whoever issues holds that row until the
-- transaction ends, so numbers have no gaps.
CREATE TABLE invoice_series (
    series TEXT NOT NULL,
    year INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (series, year)
) STRICT;

CREATE TABLE invoices (
    id TEXT NOT NULL PRIMARY KEY,
    series TEXT NOT NULL,
    year INTEGER NOT NULL,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    rental_id TEXT NOT NULL REFERENCES rentals (id),
    -- absent for a payer without an account
    consumer TEXT REFERENCES users (id),
    provider TEXT NOT NULL REFERENCES users (id),
    asset TEXT NOT NULL,
    total INTEGER NOT NULL,
    -- the document that this one corrects
    corrects TEXT REFERENCES invoices (id),
    -- what a credit note is about
    given_back TEXT REFERENCES given_back (ref),
    -- JSON: all that is written on it
    content TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    CONSTRAINT invoices_kind CHECK (kind IN ('invoice', 'credit_note')),
    CONSTRAINT invoices_number CHECK (number > 0 AND total >= 0),
    CONSTRAINT invoices_credit CHECK ((kind = 'credit_note') = (given_back IS NOT NULL)),
    CONSTRAINT invoices_corrects CHECK (kind = 'invoice' OR corrects IS NOT NULL)
) STRICT;
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
) STRICT;
CREATE INDEX invoice_transfers_by_invoice ON invoice_transfers (invoice_id, transfer_id);

CREATE TRIGGER invoices_no_update BEFORE UPDATE ON invoices
BEGIN
    SELECT RAISE(ABORT, 'a document is never changed: issue another one');
END;
CREATE TRIGGER invoices_no_delete BEFORE DELETE ON invoices
BEGIN
    SELECT RAISE(ABORT, 'a document is never changed: issue another one');
END;
CREATE TRIGGER invoice_transfers_no_update BEFORE UPDATE ON invoice_transfers
BEGIN
    SELECT RAISE(ABORT, 'what a document is about is never changed');
END;
CREATE TRIGGER invoice_transfers_no_delete BEFORE DELETE ON invoice_transfers
BEGIN
    SELECT RAISE(ABORT, 'what a document is about is never changed');
END;
CREATE TRIGGER invoice_series_forward BEFORE UPDATE ON invoice_series
WHEN NEW.last <> OLD.last + 1 OR NEW.series <> OLD.series OR NEW.year <> OLD.year
BEGIN
    SELECT RAISE(ABORT, 'a series moves by one');
END;
CREATE TRIGGER invoice_series_no_delete BEFORE DELETE ON invoice_series
BEGIN
    SELECT RAISE(ABORT, 'a series is kept');
END;

-- absent until its invoice was issued, and again when more was paid after that
ALTER TABLE rentals ADD COLUMN invoiced_at INTEGER;
-- rentals that wait for their invoice
CREATE INDEX rentals_to_invoice ON rentals (settled_at) WHERE settled_at IS NOT NULL AND invoiced_at IS NULL AND paid > 0;
