-- Statements of accounts by month: transfers of an account by time, and balances at ends of months that were told to somebody. Once told,
-- nothing is posted before that moment any more: a statement of a closed month never changes.
DROP INDEX transfers_by_debit;
DROP INDEX transfers_by_credit;
CREATE INDEX transfers_by_debit ON transfers (debit, created_at, id);
CREATE INDEX transfers_by_credit ON transfers (credit, created_at, id);
-- in which currencies there are books
CREATE INDEX accounts_outside ON accounts (asset) WHERE kind = 'external';

CREATE TABLE account_closings (
    account TEXT NOT NULL REFERENCES accounts (id),
    until INTEGER NOT NULL,
    balance INTEGER NOT NULL,
    PRIMARY KEY (account, until)
) STRICT;
CREATE TRIGGER account_closings_no_update BEFORE UPDATE ON account_closings
BEGIN
    SELECT RAISE(ABORT, 'what was told of an account is kept');
END;
CREATE TRIGGER account_closings_no_delete BEFORE DELETE ON account_closings
BEGIN
    SELECT RAISE(ABORT, 'what was told of an account is kept');
END;
CREATE TRIGGER transfers_not_in_closed_months BEFORE INSERT ON transfers
WHEN EXISTS (SELECT 1 FROM account_closings WHERE account = NEW.debit AND until > NEW.created_at)
    OR EXISTS (SELECT 1 FROM account_closings WHERE account = NEW.credit AND until > NEW.created_at)
BEGIN
    SELECT RAISE(ABORT, 'the statement of that month was issued: is a clock wrong?');
END;
