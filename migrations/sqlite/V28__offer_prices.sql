-- What an offer cost and when: a row for each change of its prices.
CREATE TABLE offer_prices (
    offer_id TEXT NOT NULL REFERENCES offers (id),
    at INTEGER NOT NULL,
    ram_gib_hour INTEGER NOT NULL,
    cpu_hour INTEGER NOT NULL,
    gpu_hour INTEGER NOT NULL,
    disk_gib_hour INTEGER NOT NULL,
    PRIMARY KEY (offer_id, at)
) STRICT;
-- those that are there begin with what is known of them
INSERT INTO offer_prices (offer_id, at, ram_gib_hour, cpu_hour, gpu_hour, disk_gib_hour)
SELECT id, updated_at, ram_gib_hour, cpu_hour, gpu_hour, disk_gib_hour FROM offers;
