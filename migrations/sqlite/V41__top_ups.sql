-- Quotes and payments sell more than rentals: a balance is filled by them too. What only a rental has is absent then, so the columns
-- that were `NOT NULL` are made anew: added, copied, dropped and renamed, which leaves the tables and what refers to them in place
-- (no foreign key has to be switched off for that).
ALTER TABLE quotes ADD COLUMN slice_offer_id TEXT;
ALTER TABLE quotes ADD COLUMN slice_ram_bytes INTEGER;
ALTER TABLE quotes ADD COLUMN slice_cpu_millis INTEGER;
ALTER TABLE quotes ADD COLUMN slice_duration_ms INTEGER;
ALTER TABLE quotes ADD COLUMN slice_rate_micro INTEGER;
ALTER TABLE quotes ADD COLUMN slice_fee_bps INTEGER;
UPDATE quotes SET slice_offer_id = offer_id, slice_ram_bytes = ram_bytes, slice_cpu_millis = cpu_millis,
    slice_duration_ms = duration_ms, slice_rate_micro = rate_micro, slice_fee_bps = fee_bps;
ALTER TABLE quotes DROP COLUMN offer_id;
ALTER TABLE quotes DROP COLUMN ram_bytes;
ALTER TABLE quotes DROP COLUMN cpu_millis;
ALTER TABLE quotes DROP COLUMN duration_ms;
ALTER TABLE quotes DROP COLUMN rate_micro;
ALTER TABLE quotes DROP COLUMN fee_bps;
ALTER TABLE quotes RENAME COLUMN slice_offer_id TO offer_id;
ALTER TABLE quotes RENAME COLUMN slice_ram_bytes TO ram_bytes;
ALTER TABLE quotes RENAME COLUMN slice_cpu_millis TO cpu_millis;
ALTER TABLE quotes RENAME COLUMN slice_duration_ms TO duration_ms;
ALTER TABLE quotes RENAME COLUMN slice_rate_micro TO rate_micro;
ALTER TABLE quotes RENAME COLUMN slice_fee_bps TO fee_bps;
-- whose balance it fills; absent for rentals. A quote is of a slice or of a balance, never of both or neither
ALTER TABLE quotes ADD COLUMN user_id TEXT REFERENCES users (id) CONSTRAINT quotes_subject CHECK (
    (purpose = 'top_up' AND user_id IS NOT NULL AND rental_id IS NULL AND offer_id IS NULL AND ram_bytes IS NULL
        AND cpu_millis IS NULL AND duration_ms IS NULL AND rate_micro IS NULL AND fee_bps IS NULL)
    OR (((purpose = 'rent' AND rental_id IS NULL) OR (purpose = 'extend' AND rental_id IS NOT NULL))
        AND user_id IS NULL AND offer_id IS NOT NULL AND ram_bytes IS NOT NULL AND cpu_millis IS NOT NULL
        AND duration_ms IS NOT NULL AND rate_micro IS NOT NULL AND fee_bps IS NOT NULL));

DROP INDEX payments_by_rental;
ALTER TABLE payments ADD COLUMN of_rental TEXT;
UPDATE payments SET of_rental = rental_id;
ALTER TABLE payments DROP COLUMN rental_id;
ALTER TABLE payments RENAME COLUMN of_rental TO rental_id;
-- whose balance it fills; absent for rentals
ALTER TABLE payments ADD COLUMN user_id TEXT REFERENCES users (id)
    CONSTRAINT payments_target CHECK ((rental_id IS NULL) <> (user_id IS NULL));
-- the latest payment for a rental
CREATE INDEX payments_by_rental ON payments (rental_id);
