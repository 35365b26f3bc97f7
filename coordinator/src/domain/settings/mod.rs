//! Settings that administrators change while the market runs; everything else is in the file of settings.
//!
//! # Invariants
//! - One row, one version: a change is guarded by the version that was read, so that two administrators never overwrite each other
//!   unseen.
//! - Each change is in the audit log with a reason, in the same transaction.
//! - Whoever reads a setting reads it in the transaction that uses it: there is no cache that could lag behind.

pub mod model;
mod store;

use self::model::{Runtime, Versioned};
use super::audit::{self, Entry};
use crate::{
    context::OpCtx,
    error::{Error, Kind, Result},
    store::Tx,
};

/// The settings as they are now.
///
/// # Errors
/// The database's.
pub fn current(tx: &mut dyn Tx) -> Result<Versioned> {
    store::read(tx)
}

/// The platform's share of new rentals, basis points: what was set here, else what the file of settings says.
///
/// # Errors
/// The database's.
pub fn fee_bps(tx: &mut dyn Tx, configured: u32) -> Result<u32> {
    Ok(store::read(tx)?.settings.fee_bps.unwrap_or(configured))
}

/// Refuses to open an account while sign-ups are closed.
///
/// # Errors
/// 403 `signups_closed`.
pub fn check_signups(tx: &mut dyn Tx) -> Result<()> {
    if store::read(tx)?.settings.signups_open {
        return Ok(());
    }
    Err(Error::new(
        Kind::Forbidden,
        "signups_closed",
        "no new accounts are opened at the moment; renting by x402 needs none",
    ))
}

/// Replaces the settings that were read at `version`.
///
/// # Errors
/// 412 if somebody changed them since, 422 out of bounds.
pub fn replace(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    version: i64,
    settings: &Runtime,
    reason: &str,
) -> Result<Versioned> {
    settings.check()?;
    let before = store::read(tx)?;
    if before.version != version || !store::replace(tx, version, settings, ctx.now)? {
        return Err(Error::new(
            Kind::Changed,
            "changed_meanwhile",
            "somebody changed the settings since you read them: read them again",
        ));
    }
    let json = |settings: &Runtime| serde_json::to_value(settings).map_err(Error::internal);
    let entry = Entry::of("settings.changed", "settings")
        .before(json(&before.settings)?)
        .after(json(settings)?)
        .reason(reason);
    audit::record(tx, ctx, entry)?;
    store::read(tx)
}
