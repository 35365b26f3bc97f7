-- Rentals. `state` is what is wanted, `phase` what the node reports. A live rental holds its part of the node's capacity.
-- Times are by the coordinator's clock. lease_until <= paid_until; the escrow holds what is paid and not yet charged.
CREATE TABLE rentals (
    id TEXT NOT NULL PRIMARY KEY,
    lease_id TEXT NOT NULL,
    offer_id TEXT NOT NULL REFERENCES offers (id),
    node_id TEXT NOT NULL REFERENCES nodes (id),
    provider TEXT NOT NULL REFERENCES users (id),
    consumer TEXT REFERENCES users (id),
    payer TEXT,
    state TEXT NOT NULL,
    stop_reason TEXT,
    end_reason TEXT,
    detail TEXT NOT NULL,
    phase TEXT NOT NULL,
    spec TEXT NOT NULL,
    ram_bytes INTEGER NOT NULL,
    cpu_millis INTEGER NOT NULL,
    asset TEXT NOT NULL,
    rate_micro INTEGER NOT NULL,
    fee_bps INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    paid INTEGER NOT NULL,
    auto_extend INTEGER NOT NULL,
    max_spend INTEGER,
    container_id TEXT,
    image_digest TEXT,
    created_at INTEGER NOT NULL,
    reserve_until INTEGER NOT NULL,
    paid_at INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    lease_until INTEGER NOT NULL,
    ended_at INTEGER,
    settled_at INTEGER,
    window_end INTEGER,
    billed_ms INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    fee INTEGER NOT NULL,
    refunded INTEGER NOT NULL,
    version INTEGER NOT NULL,
    CONSTRAINT rentals_resources CHECK (ram_bytes > 0 AND cpu_millis > 0),
    CONSTRAINT rentals_charged CHECK (charged >= fee AND charged + refunded <= paid)
) STRICT;
CREATE INDEX rentals_live ON rentals (node_id, id) WHERE state <> 'ended';
CREATE INDEX rentals_running ON rentals (lease_until) WHERE state = 'active';
CREATE INDEX rentals_reserved ON rentals (reserve_until) WHERE state = 'reserved';
CREATE INDEX rentals_unsettled ON rentals (id) WHERE settled_at IS NULL AND state <> 'reserved';
CREATE INDEX rentals_by_consumer ON rentals (consumer, id);
CREATE INDEX rentals_by_provider ON rentals (provider, id);

-- Closed billing windows: gapless and without overlap per rental.
CREATE TABLE billing_windows (
    rental_id TEXT NOT NULL REFERENCES rentals (id),
    window_start INTEGER NOT NULL,
    window_end INTEGER NOT NULL,
    billable_ms INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    fee INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (rental_id, window_start),
    CONSTRAINT billing_windows_order CHECK (window_end > window_start),
    CONSTRAINT billing_windows_length CHECK (billable_ms >= 0 AND billable_ms <= (window_end - window_start) / 1000)
) STRICT;
CREATE UNIQUE INDEX billing_windows_by_end ON billing_windows (rental_id, window_end);
CREATE INDEX rentals_to_settle ON rentals (ended_at) WHERE state = 'ended' AND settled_at IS NULL;
