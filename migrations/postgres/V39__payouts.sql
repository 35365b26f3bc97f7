-- Money on its way out. Until it is handed to a network it is held for its owner, then it lies in payout_clearing, and at its end it has
-- left or went back. What is sent is an authorization of ours, whose nonce follows from the id: a network takes it once.
CREATE TABLE payouts (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id TEXT REFERENCES users (id),
    payer TEXT,
    asset TEXT NOT NULL,
    amount BIGINT NOT NULL,
    network TEXT NOT NULL,
    token TEXT NOT NULL,
    pay_to TEXT NOT NULL,
    state TEXT NOT NULL,
    note TEXT,
    payload TEXT,
    valid_before BIGINT NOT NULL,
    signatures BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    doubtful BIGINT NOT NULL,
    tx_hash TEXT,
    next_try_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT payouts_positive CHECK (amount > 0),
    CONSTRAINT payouts_owner CHECK ((user_id IS NULL) <> (payer IS NULL))
);
CREATE INDEX payouts_by_user ON payouts (user_id, id);
CREATE INDEX payouts_by_state ON payouts (state, id);
CREATE INDEX payouts_due ON payouts (next_try_at, id) WHERE state IN ('requested', 'sending', 'sent');

-- Who of the administrators let a large payout go.
CREATE TABLE payout_approvals (
    payout_id TEXT NOT NULL REFERENCES payouts (id),
    admin TEXT NOT NULL REFERENCES users (id),
    approved_at BIGINT NOT NULL,
    PRIMARY KEY (payout_id, admin)
);

-- What was asked for on a day (since the Unix epoch, UTC), of one owner and, under an empty name, of all.
CREATE TABLE payout_days (
    day BIGINT NOT NULL,
    asset TEXT NOT NULL,
    owner TEXT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (day, asset, owner),
    CONSTRAINT payout_days_positive CHECK (amount >= 0)
);

-- Where an account's money goes; what is wanted instead takes effect later.
CREATE TABLE payout_addresses (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id),
    address TEXT,
    wanted TEXT,
    wanted_from BIGINT,
    changed_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT payout_addresses_wanted CHECK ((wanted IS NULL) = (wanted_from IS NULL))
);

-- Wallets without an account that something is owed to; looked at when their time comes.
CREATE TABLE payers_owed (
    asset TEXT NOT NULL,
    payer TEXT NOT NULL,
    look_at BIGINT NOT NULL,
    PRIMARY KEY (asset, payer)
);
CREATE INDEX payers_owed_due ON payers_owed (look_at, asset, payer);
INSERT INTO payers_owed (asset, payer, look_at)
SELECT asset, replace(replace(id, asset || '/payer:', ''), ':refunds', ''), 0 FROM accounts WHERE kind = 'payer_refunds' AND balance > 0;
