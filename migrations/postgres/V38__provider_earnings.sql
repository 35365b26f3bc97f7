-- What each rental earned its provider and isn't payable yet. `ripening` becomes payable when its youngest part is as old as the
-- dispute window; what is earned meanwhile is `fresh`, and then ripens in turn.
CREATE TABLE provider_earnings (
    rental_id TEXT NOT NULL PRIMARY KEY REFERENCES rentals (id),
    provider TEXT NOT NULL REFERENCES users (id),
    asset TEXT NOT NULL,
    ripening BIGINT NOT NULL,
    ripening_at BIGINT NOT NULL,
    fresh BIGINT NOT NULL,
    fresh_at BIGINT NOT NULL,
    released BIGINT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT provider_earnings_positive CHECK (ripening >= 0 AND fresh >= 0 AND released >= 0)
);
CREATE INDEX provider_earnings_ripening ON provider_earnings (ripening_at, rental_id) WHERE ripening > 0;
