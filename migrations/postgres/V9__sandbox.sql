-- The sandbox facilitator's play chain. Nothing but adapters/facilitator_sandbox.rs reads or writes these tables.
-- Money only moves: the sum of `balance` is always the sum of `granted`.
CREATE TABLE sandbox_wallets (
    network TEXT NOT NULL,
    asset TEXT NOT NULL,
    address TEXT NOT NULL,
    balance BIGINT NOT NULL,
    granted BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (network, asset, address),
    CONSTRAINT sandbox_wallets_balance CHECK (balance >= 0)
);

-- Used nonces, as a token's contract keeps them.
CREATE TABLE sandbox_settlements (
    network TEXT NOT NULL,
    asset TEXT NOT NULL,
    payer TEXT NOT NULL,
    nonce TEXT NOT NULL,
    pay_to TEXT NOT NULL,
    amount BIGINT NOT NULL,
    payload_sha256 BYTEA NOT NULL,
    transaction_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (network, asset, payer, nonce),
    CONSTRAINT sandbox_settlements_amount CHECK (amount > 0)
);
