//! Who did what to whom, when, from where and why: an append-only log, chained by hash.
//!
//! # Invariants
//! - An entry exists exactly when the change that it tells of was committed: it is written in the same transaction.
//! - Places are dense and the chain never forks: whoever appends holds the lock on the one row of `audit_head` until its
//!   transaction ends. So record last in a transaction, and only what people and operators do, not what nodes report.
//! - Rows are never changed or removed; the database refuses it, and the chain shows it where somebody made it agree.

pub mod api;
pub mod check;
pub mod checkpoint;
pub mod model;
pub mod settings;
mod store;
#[cfg(test)]
mod tests;

pub use self::model::Entry;
use self::model::{Filter, Record};
use crate::{
    context::{OpCtx, Role},
    error::Result,
    store::Tx,
};

/// Records an entry in the caller's transaction. Actor, request id and client address come from `ctx`.
///
/// # Errors
/// What the database says; 422 for a reason that is too long, 500 for states that are too large.
#[expect(
    clippy::needless_pass_by_value,
    reason = "an entry is written once: taking it says so"
)]
pub fn record(tx: &mut dyn Tx, ctx: &OpCtx, entry: Entry<'_>) -> Result<()> {
    let (seq, hash) = store::lock_head(tx)?;
    let record = Record::after(ctx, &entry, seq, hash)?;
    store::append(tx, &record)
}

/// Entries, newest first, for administrators; `before` is the moment (microseconds) and place of the last one seen.
///
/// # Errors
/// 401 or 403 for anybody else.
pub fn list(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    filter: &Filter,
    before: Option<(i64, i64)>,
    count_max: i64,
) -> Result<Vec<Record>> {
    ctx.user_with(Role::Admin)?;
    store::page(tx, filter, before, count_max)
}
