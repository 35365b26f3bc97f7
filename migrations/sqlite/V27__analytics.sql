-- Figures over time that nobody may compute by reading the tables they come from. Rows are added to as windows are billed, each window once:
-- `rolled_at` says when. Hours are forgotten after a while, days are kept.
-- absent until the window was added
ALTER TABLE billing_windows ADD COLUMN rolled_at INTEGER;
-- which windows are to be added
CREATE INDEX billing_windows_to_roll ON billing_windows (created_at) WHERE rolled_at IS NULL;
-- the burn rate of a consumer
CREATE INDEX rentals_burning ON rentals (consumer) WHERE state = 'active';

CREATE TABLE node_figures (
    node_id TEXT NOT NULL REFERENCES nodes (id),
    grain TEXT NOT NULL,
    -- where the hour or day begins
    at INTEGER NOT NULL,
    provider TEXT NOT NULL REFERENCES users (id),
    earned INTEGER NOT NULL,
    fee INTEGER NOT NULL,
    billed_ms INTEGER NOT NULL,
    -- MiB of memory times billed milliseconds
    ram_mib_ms INTEGER NOT NULL,
    -- how long the node was provably there, and what it had to rent then
    covered_ms INTEGER NOT NULL,
    rentable_ram_mib INTEGER NOT NULL,
    PRIMARY KEY (node_id, grain, at),
    CONSTRAINT node_figures_grain CHECK (grain IN ('hour', 'day'))
) STRICT;
-- GET /analytics/provider
CREATE INDEX node_figures_by_provider ON node_figures (provider, grain, at);
-- forgetting hours
CREATE INDEX node_figures_by_age ON node_figures (grain, at);

CREATE TABLE consumer_figures (
    consumer TEXT NOT NULL REFERENCES users (id),
    grain TEXT NOT NULL,
    at INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    billed_ms INTEGER NOT NULL,
    PRIMARY KEY (consumer, grain, at),
    CONSTRAINT consumer_figures_grain CHECK (grain IN ('hour', 'day'))
) STRICT;
-- forgetting hours
CREATE INDEX consumer_figures_by_age ON consumer_figures (grain, at);

-- Up to which hour the time that nodes were there was added, and after which node of the hour that is being added.
CREATE TABLE figures_position (
    one INTEGER NOT NULL PRIMARY KEY,
    covered_until INTEGER NOT NULL,
    after_node TEXT NOT NULL,
    CONSTRAINT figures_position_one CHECK (one = 1)
) STRICT;
INSERT INTO figures_position (one, covered_until, after_node) VALUES (1, 0, '');

-- The market looked at every few minutes; what doesn't begin an hour is forgotten after days.
CREATE TABLE market_samples (
    resource TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- of what is on offer now, per unit and hour; absent when nothing is
    price_p10 INTEGER,
    price_median INTEGER,
    price_p90 INTEGER,
    -- that can be rented now: bytes, thousandths of a processor, pieces
    available INTEGER NOT NULL,
    PRIMARY KEY (resource, at),
    CONSTRAINT market_samples_resource CHECK (resource IN ('ram', 'cpu', 'gpu'))
) STRICT;
CREATE INDEX market_samples_by_age ON market_samples (at);
