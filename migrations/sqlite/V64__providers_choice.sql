-- Whom and what the owner of a machine doesn't serve, and how long before its time a rental may be ended by its provider.
-- Lists are JSON, bounded by the program: they are read whole, by the node's id, and searched nowhere.
CREATE TABLE node_blocklists (
    node_id TEXT PRIMARY KEY REFERENCES nodes (id),
    consumers TEXT NOT NULL,
    images TEXT NOT NULL,
    registries TEXT NOT NULL,
    version INTEGER NOT NULL CONSTRAINT node_blocklists_version CHECK (version > 0),
    updated_at INTEGER NOT NULL
) STRICT;
ALTER TABLE offers ADD COLUMN notice_ms INTEGER NOT NULL DEFAULT 0 CONSTRAINT offers_notice CHECK (notice_ms >= 0);
ALTER TABLE rentals ADD COLUMN notice_ms INTEGER NOT NULL DEFAULT 0 CONSTRAINT rentals_notice CHECK (notice_ms >= 0);
