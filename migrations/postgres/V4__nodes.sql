-- Machines. Three axes that are never mixed: what is observed (availability), what people want (schedulability), whether it exists (lifecycle).
-- `free_*` are guarded counters: rentable minus the sum of live rentals; they can't go below zero.
CREATE TABLE nodes (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    public_key BYTEA NOT NULL,
    lifecycle TEXT NOT NULL,
    schedulability TEXT NOT NULL,
    availability TEXT NOT NULL,
    availability_at BIGINT NOT NULL,
    region TEXT NOT NULL,
    inventory TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    rentable_ram_bytes BIGINT NOT NULL,
    rentable_cpu_millis BIGINT NOT NULL,
    free_ram_bytes BIGINT NOT NULL,
    free_cpu_millis BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT nodes_ram_free CHECK (free_ram_bytes >= 0),
    CONSTRAINT nodes_cpu_free CHECK (free_cpu_millis >= 0)
);
CREATE UNIQUE INDEX nodes_by_key ON nodes (public_key);
CREATE INDEX nodes_by_owner ON nodes (owner, id);

CREATE TABLE enrollment_tokens (
    hash BYTEA NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    node_id TEXT
);

-- What a node did that an honest one doesn't; one row per node and code, so that it can't grow.
CREATE TABLE node_flags (
    node_id TEXT NOT NULL REFERENCES nodes (id),
    code TEXT NOT NULL,
    detail TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    times BIGINT NOT NULL,
    PRIMARY KEY (node_id, code)
);
