-- What the owner of a machine wants of the market in time: until when a drain may take, when the machine can't be relied on
-- (JSON, bounded, read with each offer), and which of its orders were looked at, so that a repeated beat repeats none.
ALTER TABLE nodes ADD COLUMN drain_deadline_at BIGINT; -- NULL: none
ALTER TABLE nodes ADD COLUMN maintenance TEXT NOT NULL DEFAULT '[]';
-- the drain task: due deadlines
CREATE INDEX nodes_by_drain_deadline ON nodes (drain_deadline_at, id) WHERE drain_deadline_at IS NOT NULL;
-- whether those who rent there were told of the maintenance
ALTER TABLE nodes ADD COLUMN maintenance_told TEXT NOT NULL DEFAULT 'yes' CONSTRAINT nodes_maintenance_told CHECK (maintenance_told IN ('yes', 'no'));
-- whom to tell
CREATE INDEX nodes_maintenance_to_tell ON nodes (id) WHERE maintenance_told = 'no';

CREATE TABLE node_orders (
    node_id TEXT NOT NULL PRIMARY KEY REFERENCES nodes (id),
    seen BIGINT NOT NULL CONSTRAINT node_orders_seen CHECK (seen >= 0),
    outcomes TEXT NOT NULL
);
