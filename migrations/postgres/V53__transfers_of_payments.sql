-- One transaction of a network may settle several payments (a facilitator that batches), so it doesn't name the transfer that was credited: its
-- transaction and the place of its log do. Where no chain is asked that isn't known, and the payment's own (network, token, payer, nonce), which
-- a token takes once, says all that can be said.
DROP INDEX payments_by_transfer;
-- absent where no chain was asked
ALTER TABLE payments ADD COLUMN log_index BIGINT;
CREATE UNIQUE INDEX payments_by_transfer ON payments (network, tx_hash, log_index) WHERE log_index IS NOT NULL;
-- the network over which a balance was filled last: money out goes by it
CREATE INDEX payments_by_user ON payments (user_id, created_at) WHERE user_id IS NOT NULL;
