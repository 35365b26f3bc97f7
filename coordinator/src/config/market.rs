//! Section `market`: fee, quotes and lengths of rentals.

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// The rules of the market.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MarketConfig {
    /// The platform's fee, basis points of what is charged.
    pub fee_bps: u32,
    /// How far ahead of now a node may run a paid rental without hearing from us, seconds.
    pub horizon_s: u32,
    /// Leases are moved in steps of so many seconds.
    pub lease_step_s: u32,
    /// A quote is valid for so many seconds.
    pub quote_ttl_s: u32,
    /// Shortest rental, seconds.
    pub min_duration_s: u32,
    /// Longest rental, seconds.
    pub max_duration_s: u32,
    /// A rental is extended from a balance, or said to be out of funds, so many seconds before its paid end.
    pub grace_s: u32,
    /// What a provider earned becomes payable after so many seconds, in which the consumer may dispute it.
    pub dispute_window_s: u32,
    /// The tax that is part of all prices, basis points of the net price; 0 for none.
    pub tax_bps: u32,
    /// What that tax is called on invoices.
    pub tax_name: String,
    /// Who issues invoices.
    pub issuer_name: String,
    /// Where they are, on invoices; may be empty.
    pub issuer_address: String,
    /// Their number at the tax office, on invoices; may be empty.
    pub issuer_tax_id: String,
}

impl Default for MarketConfig {
    fn default() -> Self {
        Self {
            fee_bps: 500,
            horizon_s: 900,
            lease_step_s: 60,
            quote_ttl_s: 300,
            min_duration_s: 60,
            max_duration_s: 30 * 86_400,
            grace_s: 300,
            dispute_window_s: 86_400,
            tax_bps: 0,
            tax_name: "VAT".to_owned(),
            issuer_name: "RAMarket".to_owned(),
            issuer_address: String::new(),
            issuer_tax_id: String::new(),
        }
    }
}

impl MarketConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within("market.fee_bps", self.fee_bps, 0, 5_000)?;
        within("market.horizon_s", self.horizon_s, 1, 86_400)?;
        // less and a rental could end between two turns of the timer that extends it
        within("market.grace_s", self.grace_s, 30, 86_400)?;
        within("market.lease_step_s", self.lease_step_s, 1, self.horizon_s)?;
        within("market.quote_ttl_s", self.quote_ttl_s, 1, 3_600)?;
        within("market.min_duration_s", self.min_duration_s, 1, 86_400)?;
        within(
            "market.max_duration_s",
            self.max_duration_s,
            self.min_duration_s,
            366 * 86_400,
        )?;
        within(
            "market.dispute_window_s",
            self.dispute_window_s,
            0,
            90 * 86_400,
        )?;
        within("market.tax_bps", self.tax_bps, 0, 5_000)?;
        for (key, text, empty) in [
            ("market.tax_name", &self.tax_name, false),
            ("market.issuer_name", &self.issuer_name, false),
            ("market.issuer_address", &self.issuer_address, true),
            ("market.issuer_tax_id", &self.issuer_tax_id, true),
        ] {
            let odd = text.chars().any(char::is_control) || text.chars().count() > 200;
            if odd || (!empty && text.trim().is_empty()) {
                return Err(ConfigError::invalid(
                    key,
                    "one line of at most 200 characters, as it is to stand on invoices",
                ));
            }
        }
        Ok(())
    }
}
