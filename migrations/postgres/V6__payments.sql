-- Quotes: priced orders, valid for minutes, used once. `request_sha256` is the hash of method, path and body of the request that was
-- answered with 402, so that its paid repeat finds its terms.
CREATE TABLE quotes (
    id TEXT NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL,
    request_sha256 BYTEA NOT NULL,
    rental_id TEXT,
    offer_id TEXT NOT NULL,
    ram_bytes BIGINT NOT NULL,
    cpu_millis BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    rate_micro BIGINT NOT NULL,
    fee_bps BIGINT NOT NULL,
    amount BIGINT NOT NULL,
    asset TEXT NOT NULL,
    network TEXT NOT NULL,
    pay_to TEXT NOT NULL,
    payment_id TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT quotes_amount CHECK (amount > 0)
);
CREATE INDEX quotes_open ON quotes (request_sha256, created_at) WHERE payment_id IS NULL;
CREATE INDEX quotes_unused_by_age ON quotes (expires_at) WHERE payment_id IS NULL;

-- Payments. (network, asset, payer, nonce) is what a signature can be used for once, so it is the idempotency key.
CREATE TABLE payments (
    id TEXT NOT NULL PRIMARY KEY,
    quote_id TEXT NOT NULL REFERENCES quotes (id),
    rental_id TEXT NOT NULL,
    network TEXT NOT NULL,
    asset TEXT NOT NULL,
    payer TEXT NOT NULL,
    nonce TEXT NOT NULL,
    pay_to TEXT NOT NULL,
    amount BIGINT NOT NULL,
    valid_after BIGINT NOT NULL,
    valid_before BIGINT NOT NULL,
    x402_version BIGINT NOT NULL,
    payload TEXT NOT NULL,
    payload_sha256 BYTEA NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    tx_hash TEXT,
    last_error TEXT,
    next_try_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT payments_amount CHECK (amount > 0)
);
CREATE UNIQUE INDEX payments_by_nonce ON payments (network, asset, payer, nonce);
CREATE UNIQUE INDEX payments_by_transfer ON payments (network, tx_hash) WHERE tx_hash IS NOT NULL;
CREATE UNIQUE INDEX payments_open_order ON payments (quote_id) WHERE state NOT IN ('rejected', 'expired');
CREATE INDEX payments_due ON payments (next_try_at) WHERE state IN ('received', 'verified', 'settling', 'pending');
CREATE INDEX payments_by_rental ON payments (rental_id);

-- Idempotency keys of requests that don't pay by x402: written in the transaction that does the work.
CREATE TABLE idempotency_keys (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    request_sha256 BYTEA NOT NULL,
    resource_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
