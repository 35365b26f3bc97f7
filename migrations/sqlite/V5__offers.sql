-- Priced slices of nodes. Prices are atomic units per hour.
CREATE TABLE offers (
    id TEXT NOT NULL PRIMARY KEY,
    node_id TEXT NOT NULL REFERENCES nodes (id),
    owner TEXT NOT NULL REFERENCES users (id),
    state TEXT NOT NULL,
    asset TEXT NOT NULL,
    ram_gib_hour INTEGER NOT NULL,
    cpu_hour INTEGER NOT NULL,
    gpu_hour INTEGER NOT NULL,
    disk_gib_hour INTEGER NOT NULL,
    max_ram_bytes INTEGER NOT NULL,
    max_cpu_millis INTEGER NOT NULL,
    min_duration_ms INTEGER NOT NULL,
    max_duration_ms INTEGER NOT NULL,
    region TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT offers_prices CHECK (ram_gib_hour >= 0 AND cpu_hour >= 0 AND gpu_hour >= 0 AND disk_gib_hour >= 0)
) STRICT;
CREATE INDEX offers_by_node ON offers (node_id);
CREATE INDEX offers_by_owner ON offers (owner, id);
CREATE INDEX offers_alive ON offers (id) WHERE state <> 'deleted';
