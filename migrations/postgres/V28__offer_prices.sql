-- What an offer cost and when: a row for each change of its prices.
CREATE TABLE offer_prices (
    offer_id TEXT NOT NULL REFERENCES offers (id),
    at BIGINT NOT NULL,
    ram_gib_hour BIGINT NOT NULL,
    cpu_hour BIGINT NOT NULL,
    gpu_hour BIGINT NOT NULL,
    disk_gib_hour BIGINT NOT NULL,
    PRIMARY KEY (offer_id, at)
);
-- those that are there begin with what is known of them
INSERT INTO offer_prices (offer_id, at, ram_gib_hour, cpu_hour, gpu_hour, disk_gib_hour)
SELECT id, updated_at, ram_gib_hour, cpu_hour, gpu_hour, disk_gib_hour FROM offers;
