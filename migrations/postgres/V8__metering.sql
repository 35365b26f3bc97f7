-- The end of each node's journal and the beat that brought it: where the next beat must continue.
CREATE TABLE node_chains (
    node_id TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id),
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    boot_id TEXT NOT NULL,
    boot_ms BIGINT NOT NULL,
    received_at BIGINT NOT NULL
);

-- Signed usage records: evidence, kept as they came.
CREATE TABLE usage_records (
    node_id TEXT NOT NULL REFERENCES nodes (id),
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    rental_id TEXT NOT NULL,
    body TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, seq)
);
CREATE INDEX usage_records_by_rental ON usage_records (rental_id, seq);

-- Time in which a node was provably there: one row per unbroken stretch, its end moved by each beat.
CREATE TABLE node_coverage (
    node_id TEXT NOT NULL REFERENCES nodes (id),
    start_at BIGINT NOT NULL,
    end_at BIGINT NOT NULL,
    PRIMARY KEY (node_id, start_at)
);
CREATE INDEX node_coverage_by_end ON node_coverage (node_id, end_at);

-- When a coordinator ran, by its own record: what lies between isn't the providers' fault.
CREATE TABLE uptime (
    epoch TEXT NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL,
    alive_until BIGINT NOT NULL
);
CREATE INDEX uptime_by_end ON uptime (alive_until);
