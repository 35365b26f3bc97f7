-- The end of each node's journal and the beat that brought it: where the next beat must continue.
CREATE TABLE node_chains (
    node_id TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id),
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    boot_id TEXT NOT NULL,
    boot_ms INTEGER NOT NULL,
    received_at INTEGER NOT NULL
) STRICT;

-- Signed usage records: evidence, kept as they came.
CREATE TABLE usage_records (
    node_id TEXT NOT NULL REFERENCES nodes (id),
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    rental_id TEXT NOT NULL,
    body TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    PRIMARY KEY (node_id, seq)
) STRICT;
CREATE INDEX usage_records_by_rental ON usage_records (rental_id, seq);

-- Time in which a node was provably there: one row per unbroken stretch, its end moved by each beat.
CREATE TABLE node_coverage (
    node_id TEXT NOT NULL REFERENCES nodes (id),
    start_at INTEGER NOT NULL,
    end_at INTEGER NOT NULL,
    PRIMARY KEY (node_id, start_at)
) STRICT;
CREATE INDEX node_coverage_by_end ON node_coverage (node_id, end_at);

-- When a coordinator ran, by its own record: what lies between isn't the providers' fault.
CREATE TABLE uptime (
    epoch TEXT NOT NULL PRIMARY KEY,
    started_at INTEGER NOT NULL,
    alive_until INTEGER NOT NULL
) STRICT;
CREATE INDEX uptime_by_end ON uptime (alive_until);
