//! The store's metrics, all named here.

use std::time::Duration;

use super::StoreError;

/// How long a write took, waiting and retries included.
pub(super) fn write_took(name: &'static str, took: Duration) {
    metrics::histogram!("store_write_seconds", "name" => name).record(took);
}

/// How long a read took, waiting and retries included.
pub(super) fn read_took(name: &'static str, took: Duration) {
    metrics::histogram!("store_read_seconds", "name" => name).record(took);
}

/// How many bodies were committed together.
pub(super) fn group_committed(bodies: usize) {
    let bodies = u32::try_from(bodies).unwrap_or(u32::MAX);
    metrics::histogram!("store_group_bodies").record(bodies);
}

/// A body is run again because of `reason`.
pub(super) fn retried(name: &'static str, reason: &'static str) {
    metrics::counter!("store_retries_total", "name" => name, "reason" => reason).increment(1);
}

/// Turns a caller away, and counts it.
pub(super) fn turned_away(name: &'static str, why: &str) -> StoreError {
    metrics::counter!("store_busy_total", "name" => name).increment(1);
    StoreError::Busy(why.to_owned())
}
