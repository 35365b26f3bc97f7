-- Payers without an account: what they call a payment (`payment-identifier`), and how they come back (`sign-in-with-x`).
-- A wallet's own name for what it pays, so that a retry that was signed anew pays once.
CREATE TABLE payment_identifiers (
    payer TEXT NOT NULL,
    id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    payment_id TEXT NOT NULL REFERENCES payments (id),
    created_us INTEGER NOT NULL,
    PRIMARY KEY (payer, id)
) STRICT;

-- Nonces of sign-in challenges that were used; forgotten when they are too old to be shown again.
CREATE TABLE wallet_nonces (
    nonce TEXT NOT NULL PRIMARY KEY,
    used_us INTEGER NOT NULL
) STRICT;
CREATE INDEX wallet_nonces_by_age ON wallet_nonces (used_us);

-- what a wallet rents, newest first
CREATE INDEX rentals_by_payer ON rentals (payer, id) WHERE consumer IS NULL;
