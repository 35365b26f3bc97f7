-- Quotes and payments sell more than rentals: a balance is filled by them too. What only a rental has is absent then.
ALTER TABLE quotes ALTER COLUMN offer_id DROP NOT NULL;
ALTER TABLE quotes ALTER COLUMN ram_bytes DROP NOT NULL;
ALTER TABLE quotes ALTER COLUMN cpu_millis DROP NOT NULL;
ALTER TABLE quotes ALTER COLUMN duration_ms DROP NOT NULL;
ALTER TABLE quotes ALTER COLUMN rate_micro DROP NOT NULL;
ALTER TABLE quotes ALTER COLUMN fee_bps DROP NOT NULL;
-- whose balance it fills; absent for rentals. A quote is of a slice or of a balance, never of both or neither
ALTER TABLE quotes ADD COLUMN user_id TEXT REFERENCES users (id);
ALTER TABLE quotes ADD CONSTRAINT quotes_subject CHECK (
    (purpose = 'top_up' AND user_id IS NOT NULL AND rental_id IS NULL AND offer_id IS NULL AND ram_bytes IS NULL
        AND cpu_millis IS NULL AND duration_ms IS NULL AND rate_micro IS NULL AND fee_bps IS NULL)
    OR (((purpose = 'rent' AND rental_id IS NULL) OR (purpose = 'extend' AND rental_id IS NOT NULL))
        AND user_id IS NULL AND offer_id IS NOT NULL AND ram_bytes IS NOT NULL AND cpu_millis IS NOT NULL
        AND duration_ms IS NOT NULL AND rate_micro IS NOT NULL AND fee_bps IS NOT NULL));

ALTER TABLE payments ALTER COLUMN rental_id DROP NOT NULL;
-- whose balance it fills; absent for rentals
ALTER TABLE payments ADD COLUMN user_id TEXT REFERENCES users (id);
ALTER TABLE payments ADD CONSTRAINT payments_target CHECK ((rental_id IS NULL) <> (user_id IS NULL));
