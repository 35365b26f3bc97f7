-- Priced slices of nodes. Prices are atomic units per hour.
CREATE TABLE offers (
    id TEXT NOT NULL PRIMARY KEY,
    node_id TEXT NOT NULL REFERENCES nodes (id),
    owner TEXT NOT NULL REFERENCES users (id),
    state TEXT NOT NULL,
    asset TEXT NOT NULL,
    ram_gib_hour BIGINT NOT NULL,
    cpu_hour BIGINT NOT NULL,
    gpu_hour BIGINT NOT NULL,
    disk_gib_hour BIGINT NOT NULL,
    max_ram_bytes BIGINT NOT NULL,
    max_cpu_millis BIGINT NOT NULL,
    min_duration_ms BIGINT NOT NULL,
    max_duration_ms BIGINT NOT NULL,
    region TEXT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT offers_prices CHECK (ram_gib_hour >= 0 AND cpu_hour >= 0 AND gpu_hour >= 0 AND disk_gib_hour >= 0)
);
CREATE INDEX offers_by_node ON offers (node_id);
CREATE INDEX offers_by_owner ON offers (owner, id);
CREATE INDEX offers_alive ON offers (id) WHERE state <> 'deleted';
