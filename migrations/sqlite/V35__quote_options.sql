-- What a quote may be paid with instead of its own currency and network: a row for each, made with the quote and gone with it. The rate is
-- what was promised: `rate_numerator / rate_denominator` of this currency for one of the quote's, spread included; absent where both are the same.
CREATE TABLE quote_options (
    quote_id TEXT NOT NULL REFERENCES quotes (id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    network TEXT NOT NULL,
    token TEXT NOT NULL,
    eip712_name TEXT NOT NULL,
    eip712_version TEXT NOT NULL,
    asset TEXT NOT NULL,
    pay_to TEXT NOT NULL,
    amount INTEGER NOT NULL,
    rate_numerator INTEGER,
    rate_denominator INTEGER,
    rate_source TEXT,
    rate_at INTEGER,
    PRIMARY KEY (quote_id, place),
    CONSTRAINT quote_options_amount CHECK (amount > 0),
    CONSTRAINT quote_options_rate CHECK ((rate_numerator IS NULL) = (rate_denominator IS NULL)
        AND (rate_numerator IS NULL) = (rate_source IS NULL) AND (rate_numerator IS NULL) = (rate_at IS NULL))
) STRICT;
