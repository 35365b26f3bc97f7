-- The books are watched each minute while they grow, so what is watched is found by time: a transfer by its own, a credited payment by the
-- change that credited it. `account_folds` holds each account's sum up to a moment that lies behind every transaction's life, so that an old
-- account's transfers needn't be added up again.
DROP INDEX transfers_by_debit;
DROP INDEX transfers_by_credit;
-- sums of an account, all of them or since a moment, from the index alone
CREATE INDEX transfers_by_debit ON transfers (debit, created_at, amount);
CREATE INDEX transfers_by_credit ON transfers (credit, created_at, amount);
-- what was posted since the last pass
CREATE INDEX transfers_by_age ON transfers (created_at);
-- what was credited since the last pass
CREATE INDEX payments_credited_by_age ON payments (updated_at) WHERE state = 'credited';
-- who is told that the books are broken
CREATE INDEX user_roles_admin ON user_roles (user_id) WHERE role = 'admin';

CREATE TABLE account_folds (
    account TEXT NOT NULL PRIMARY KEY REFERENCES accounts (id),
    balance BIGINT NOT NULL
);

-- How far the books were folded and watched: moments of transfers and of journal records, and the last verified place of the audit log.
CREATE TABLE ledger_positions (
    one BIGINT NOT NULL PRIMARY KEY,
    folded_at BIGINT NOT NULL,
    checked_at BIGINT NOT NULL,
    audit_seq BIGINT NOT NULL,
    audit_hash BYTEA NOT NULL,
    CONSTRAINT ledger_positions_one CHECK (one = 1)
);
INSERT INTO ledger_positions (one, folded_at, checked_at, audit_seq, audit_hash) VALUES (1, 0, 0, 0, decode(repeat('00', 32), 'hex'));

-- Whether money may be promised and paid out: the three columns are absent while the books add up.
CREATE TABLE ledger_halt (
    one BIGINT NOT NULL PRIMARY KEY,
    since BIGINT,
    invariant TEXT,
    what TEXT,
    CONSTRAINT ledger_halt_one CHECK (one = 1),
    CONSTRAINT ledger_halt_whole CHECK ((since IS NULL) = (invariant IS NULL) AND (since IS NULL) = (what IS NULL))
);
INSERT INTO ledger_halt (one, since, invariant, what) VALUES (1, NULL, NULL, NULL);
