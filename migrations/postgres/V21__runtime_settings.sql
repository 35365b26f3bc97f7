-- Settings that administrators change while the market runs: one row, JSON, guarded by its version.
CREATE TABLE runtime_settings (
    id         BIGINT PRIMARY KEY CHECK (id = 1),
    version    BIGINT NOT NULL,
    value      TEXT NOT NULL,
    updated_us BIGINT NOT NULL
);
INSERT INTO runtime_settings (id, version, value, updated_us)
VALUES (1, 0, '{"fee_bps":null,"signups_open":true,"announcement":null}', 0);
