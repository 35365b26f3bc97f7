//! What can be set while the market runs.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The highest share of the platform, basis points.
pub const FEE_BPS_MAX: u32 = 5_000;
const ANNOUNCEMENT_CHARS_MAX: usize = 500;

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The platform's share of new rentals; nothing: as configured.
    pub fee_bps: Option<u32>,
    /// Whether new accounts are opened.
    pub signups_open: bool,
    /// What everybody is told, if anything.
    pub announcement: Option<String>,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            fee_bps: None,
            signups_open: true,
            announcement: None,
        }
    }
}

impl Runtime {
    /// Checks the bounds.
    ///
    /// # Errors
    /// 422 with the field.
    pub fn check(&self) -> Result<()> {
        if self.fee_bps.is_some_and(|bps| bps > FEE_BPS_MAX) {
            return Err(Error::invalid("/fee_bps", format!("0 to {FEE_BPS_MAX}")));
        }
        let too_long = |text: &String| {
            text.trim().is_empty()
                || text.chars().count() > ANNOUNCEMENT_CHARS_MAX
                || text.chars().any(char::is_control)
        };
        if self.announcement.as_ref().is_some_and(too_long) {
            return Err(Error::invalid(
                "/announcement",
                format!("null, or one line of 1 to {ANNOUNCEMENT_CHARS_MAX} characters"),
            ));
        }
        Ok(())
    }
}

/// The settings and how often they were changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// 0 before the first change.
    pub version: i64,
    /// What is set.
    pub settings: Runtime,
}
