-- Alerts of rentals that run out of paid time or of funds: one row for each rental that may still run, looked at when `look_at` says.
CREATE TABLE rental_alerts (
    rental_id TEXT NOT NULL PRIMARY KEY REFERENCES rentals (id),
    look_at INTEGER NOT NULL,
    -- how many of the thresholds lie ahead; one is told of when this falls
    ahead INTEGER NOT NULL,
    -- the paid end of which was said that nothing is left to extend it; absent if of none
    broke_until INTEGER,
    CONSTRAINT rental_alerts_ahead CHECK (ahead >= 0 AND ahead <= 3)
) STRICT;
-- those that are due
CREATE INDEX rental_alerts_due ON rental_alerts (look_at, rental_id);
-- rentals that run already: each is looked at once, and told of nothing that lies behind it
INSERT INTO rental_alerts (rental_id, look_at, ahead) SELECT id, 0, 0 FROM rentals WHERE state = 'active';
