//! The books as a whole: the slices' invariants put together. [`check`] proves all of them over the whole database on one snapshot
//! (`ramarket-coordinator ledger check`); [`watch`] those of what was posted since the last pass, each minute and before serving; [`sweep`]
//! all of them page by page, each day.

pub mod sweep;
#[cfg(test)]
mod tests;
pub mod watch;

use serde::Serialize;
use shared::time::Timestamp;

use crate::{
    domain::{
        disputes, earnings, events, invoices,
        ledger::{
            check::{Finding, Size, check as check_ledger},
            halt::{self, Halt},
        },
        payments, payouts, rentals,
    },
    error::Result,
    store::{Db, Tx},
};

/// An event without its place for so long is an alarm, milliseconds.
const EVENT_WAITS_MS_MAX: i64 = 300_000;

/// What the check found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How large the books are.
    pub size: Size,
    /// One line per invariant.
    pub findings: Vec<Finding>,
    /// What is late rather than wrong.
    pub alarms: Vec<Finding>,
    /// Why money is held back, if it is.
    pub halted: Option<Halt>,
}

impl Report {
    /// Whether every invariant holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        first_broken(&self.findings).is_none()
    }
}

/// The first invariant that doesn't hold.
#[must_use]
pub fn first_broken(findings: &[Finding]) -> Option<&Finding> {
    findings.iter().find(|finding| !finding.broken.is_empty())
}

/// Checks every invariant on one snapshot.
///
/// # Errors
/// The database's.
pub async fn check(db: &Db, now: Timestamp) -> Result<Report> {
    db.read("ledger.check", move |tx: &mut dyn Tx| {
        let (size, mut findings) = check_ledger(tx)?;
        findings.extend(rentals::check::check(tx)?);
        findings.push(rentals::check::capacity(tx)?);
        findings.push(disputes::check::check(tx)?);
        findings.push(invoices::check::check(tx)?);
        findings.push(payments::check::check(tx)?);
        findings.push(earnings::check(tx)?);
        findings.push(payouts::check::check(tx)?);
        Ok(Report {
            size,
            findings,
            alarms: alarms(tx, now)?,
            halted: halt::current(tx)?,
        })
    })
    .await
}

/// I9 and I10: what is late. Nothing is halted for it.
///
/// # Errors
/// The database's.
pub fn alarms(tx: &mut dyn Tx, now: Timestamp) -> Result<Vec<Finding>> {
    let waiting = events::waiting_since(tx, now.plus_ms(-EVENT_WAITS_MS_MAX), 100)?;
    Ok(vec![
        payments::check::overdue(tx, now)?,
        Finding::new(
            "I10",
            "no event waits for its place longer than 5 minutes",
            waiting,
        ),
    ])
}
