-- Forgetting unused quotes asks of each whether a payment names it: without this index, by reading all payments.
CREATE INDEX payments_by_quote ON payments (quote_id);
