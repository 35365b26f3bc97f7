-- Double entry, one ledger per asset. A transfer moves `amount` from `debit` to `credit`; a balance is credits minus debits.
-- Only accounts that stand for the outside world may go below zero.
CREATE TABLE accounts (
    id TEXT NOT NULL PRIMARY KEY,
    asset TEXT NOT NULL,
    kind TEXT NOT NULL,
    balance BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT accounts_not_overdrawn CHECK (balance >= 0 OR kind = 'external')
);

CREATE TABLE transfers (
    id TEXT NOT NULL PRIMARY KEY,
    asset TEXT NOT NULL,
    debit TEXT NOT NULL REFERENCES accounts (id),
    credit TEXT NOT NULL REFERENCES accounts (id),
    amount BIGINT NOT NULL,
    code TEXT NOT NULL,
    ref TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT transfers_positive CHECK (amount > 0),
    CONSTRAINT transfers_two_accounts CHECK (debit <> credit)
);
-- the same cause posts once
CREATE UNIQUE INDEX transfers_cause ON transfers (code, ref);
CREATE INDEX transfers_by_debit ON transfers (debit);
CREATE INDEX transfers_by_credit ON transfers (credit);

CREATE FUNCTION transfers_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'transfers are append-only';
END
$$;
CREATE TRIGGER transfers_no_change BEFORE UPDATE OR DELETE ON transfers
FOR EACH ROW EXECUTE FUNCTION transfers_append_only();
