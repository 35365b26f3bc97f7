-- What offers cost long ago is forgotten: the oldest first.
CREATE INDEX offer_prices_by_age ON offer_prices (at, offer_id);
