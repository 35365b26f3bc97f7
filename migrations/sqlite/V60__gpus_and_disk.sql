-- GPUs and disk space are rented like memory and CPU: guarded counters of a node, bounds of an offer, part of quotes and rentals.
ALTER TABLE nodes ADD COLUMN rentable_gpus INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN rentable_disk_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE nodes ADD COLUMN free_gpus INTEGER NOT NULL DEFAULT 0 CONSTRAINT nodes_gpus_free CHECK (free_gpus >= 0);
ALTER TABLE nodes ADD COLUMN free_disk_bytes INTEGER NOT NULL DEFAULT 0 CONSTRAINT nodes_disk_free CHECK (free_disk_bytes >= 0);
ALTER TABLE offers ADD COLUMN max_gpus INTEGER NOT NULL DEFAULT 0;
ALTER TABLE offers ADD COLUMN max_disk_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE quotes ADD COLUMN gpu_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE quotes ADD COLUMN disk_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rentals ADD COLUMN gpu_count INTEGER NOT NULL DEFAULT 0 CONSTRAINT rentals_gpus CHECK (gpu_count >= 0);
ALTER TABLE rentals ADD COLUMN disk_bytes INTEGER NOT NULL DEFAULT 0 CONSTRAINT rentals_disk CHECK (disk_bytes >= 0);
-- UUIDs of the GPUs that a rental got, as JSON
ALTER TABLE rentals ADD COLUMN gpus TEXT NOT NULL DEFAULT '[]';

-- Which GPU is whose: a row while the rental holds it, so that none is ever rented twice.
CREATE TABLE rental_gpus (
    node_id TEXT NOT NULL REFERENCES nodes (id),
    gpu_uuid TEXT NOT NULL,
    rental_id TEXT NOT NULL,
    PRIMARY KEY (node_id, gpu_uuid)
) STRICT;
CREATE INDEX rental_gpus_by_rental ON rental_gpus (rental_id);

-- Time in which something that is rented didn't work, by the node's own records: it isn't billed. Open while `end_at` is NULL;
-- `node_chains.faults` counts a node's open ones, so that most beats need no look.
CREATE TABLE rental_faults (
    node_id TEXT NOT NULL REFERENCES nodes (id),
    rental_id TEXT NOT NULL,
    start_at INTEGER NOT NULL,
    end_at INTEGER,
    PRIMARY KEY (node_id, rental_id, start_at)
) STRICT;
CREATE INDEX rental_faults_by_end ON rental_faults (end_at) WHERE end_at IS NOT NULL;
ALTER TABLE node_chains ADD COLUMN faults INTEGER NOT NULL DEFAULT 0;
