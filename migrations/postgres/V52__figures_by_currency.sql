-- Amounts of several currencies are never one sum: what was earned, taken and spent in an hour or a day has a row for each currency. What was
-- added before is added up anew, from the windows that it came from.
CREATE TABLE node_earnings (
    node_id TEXT NOT NULL REFERENCES nodes (id),
    grain TEXT NOT NULL,
    at BIGINT NOT NULL,
    asset TEXT NOT NULL,
    provider TEXT NOT NULL REFERENCES users (id),
    earned BIGINT NOT NULL,
    fee BIGINT NOT NULL,
    PRIMARY KEY (node_id, grain, at, asset),
    CONSTRAINT node_earnings_grain CHECK (grain IN ('hour', 'day'))
);
-- GET /analytics/provider
CREATE INDEX node_earnings_by_provider ON node_earnings (provider, grain, at);
-- forgetting hours
CREATE INDEX node_earnings_by_age ON node_earnings (grain, at);

CREATE TABLE consumer_spending (
    consumer TEXT NOT NULL REFERENCES users (id),
    grain TEXT NOT NULL,
    at BIGINT NOT NULL,
    asset TEXT NOT NULL,
    spent BIGINT NOT NULL,
    PRIMARY KEY (consumer, grain, at, asset),
    CONSTRAINT consumer_spending_grain CHECK (grain IN ('hour', 'day'))
);
-- forgetting hours
CREATE INDEX consumer_spending_by_age ON consumer_spending (grain, at);

INSERT INTO node_earnings (node_id, grain, at, asset, provider, earned, fee)
    SELECT r.node_id, g.grain, ((w.window_end - 1) / g.us) * g.us, r.asset, r.provider, CAST(SUM(w.amount - w.fee) AS BIGINT), CAST(SUM(w.fee) AS BIGINT)
    FROM billing_windows w JOIN rentals r ON r.id = w.rental_id
        CROSS JOIN (SELECT 'hour' AS grain, CAST(3600000000 AS BIGINT) AS us UNION ALL SELECT 'day', 86400000000) g
    WHERE w.rolled_at IS NOT NULL
    GROUP BY r.node_id, g.grain, ((w.window_end - 1) / g.us) * g.us, r.asset, r.provider;
INSERT INTO consumer_spending (consumer, grain, at, asset, spent)
    SELECT r.consumer, g.grain, ((w.window_end - 1) / g.us) * g.us, r.asset, CAST(SUM(w.amount) AS BIGINT)
    FROM billing_windows w JOIN rentals r ON r.id = w.rental_id
        CROSS JOIN (SELECT 'hour' AS grain, CAST(3600000000 AS BIGINT) AS us UNION ALL SELECT 'day', 86400000000) g
    WHERE w.rolled_at IS NOT NULL AND r.consumer IS NOT NULL
    GROUP BY r.consumer, g.grain, ((w.window_end - 1) / g.us) * g.us, r.asset;
ALTER TABLE node_figures DROP COLUMN earned;
ALTER TABLE node_figures DROP COLUMN fee;
ALTER TABLE consumer_figures DROP COLUMN spent;

-- What was asked per unit and hour, by currency: a row only where something was on offer in it. Until now it was looked at in the market's
-- first currency alone, which its samples don't name; most of these are of a market with one currency.
CREATE TABLE market_prices (
    resource TEXT NOT NULL,
    at BIGINT NOT NULL,
    asset TEXT NOT NULL,
    price_p10 BIGINT NOT NULL,
    price_median BIGINT NOT NULL,
    price_p90 BIGINT NOT NULL,
    PRIMARY KEY (resource, at, asset)
);
CREATE INDEX market_prices_by_age ON market_prices (at);
INSERT INTO market_prices (resource, at, asset, price_p10, price_median, price_p90)
    SELECT resource, at, COALESCE((SELECT MIN(asset) FROM offers HAVING MIN(asset) = MAX(asset)), 'USDC'), price_p10, price_median, price_p90
    FROM market_samples WHERE price_p10 IS NOT NULL AND price_median IS NOT NULL AND price_p90 IS NOT NULL;
ALTER TABLE market_samples DROP COLUMN price_p10;
ALTER TABLE market_samples DROP COLUMN price_median;
ALTER TABLE market_samples DROP COLUMN price_p90;
