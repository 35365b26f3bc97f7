-- What was paid in one currency for a price in another, by x402 or from a balance: the rate at which it was done is kept with the two
-- transfers that did it, so that documents can name it and the books can be held against it. Of a payment the quote knew it until now.
CREATE TABLE exchanges (
    -- the reference of both transfers
    ref TEXT NOT NULL PRIMARY KEY,
    -- the code of the first, which brings the money; that of the second is `exchange`
    code TEXT NOT NULL,
    -- what was bought; absent if a balance was filled
    rental_id TEXT REFERENCES rentals (id),
    paid_asset TEXT NOT NULL,
    paid INTEGER NOT NULL,
    given_asset TEXT NOT NULL,
    given INTEGER NOT NULL,
    -- `numerator / denominator` of what was paid is one of what was given, spread included
    rate_numerator INTEGER NOT NULL,
    rate_denominator INTEGER NOT NULL,
    rate_source TEXT NOT NULL,
    rate_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    CONSTRAINT exchanges_code CHECK (code IN ('payment', 'balance_purchase')),
    CONSTRAINT exchanges_two CHECK (paid_asset <> given_asset),
    CONSTRAINT exchanges_positive CHECK (paid > 0 AND given > 0 AND rate_numerator > 0 AND rate_denominator > 0)
) STRICT;
-- the invoice of a rental
CREATE INDEX exchanges_by_rental ON exchanges (rental_id, created_at) WHERE rental_id IS NOT NULL;
-- what was exchanged since the books were watched last
CREATE INDEX exchanges_by_age ON exchanges (created_at);

INSERT INTO exchanges (ref, code, rental_id, paid_asset, paid, given_asset, given, rate_numerator, rate_denominator, rate_source, rate_at,
        created_at)
    SELECT p.id, 'payment', p.rental_id, o.asset, p.amount, q.asset, q.amount, o.rate_numerator, o.rate_denominator, o.rate_source,
        o.rate_at, p.updated_at
    FROM payments p JOIN quotes q ON q.id = p.quote_id
        JOIN quote_options o ON o.quote_id = q.id AND o.network = p.network AND o.token = p.asset
    WHERE p.state = 'credited' AND o.rate_numerator IS NOT NULL;

CREATE TRIGGER exchanges_no_update BEFORE UPDATE ON exchanges
BEGIN
    SELECT RAISE(ABORT, 'what was exchanged is never changed');
END;
CREATE TRIGGER exchanges_no_delete BEFORE DELETE ON exchanges
BEGIN
    SELECT RAISE(ABORT, 'what was exchanged is never changed');
END;

-- from the balance in which currency it is extended; absent where that is the price's
ALTER TABLE rentals ADD COLUMN balance_asset TEXT;
