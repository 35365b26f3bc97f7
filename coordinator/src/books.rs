//! `ramarket-coordinator ledger check`: proves over the whole database that the books add up.

use serde::Serialize;

use crate::{
    domain::{
        disputes, earnings, invoices,
        ledger::check::{Finding, Size, check as check_ledger},
        payments, rentals,
    },
    error::Result,
    store::{Db, Tx},
};

/// What the check found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How large the books are.
    pub size: Size,
    /// One line per invariant.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether every invariant holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.broken.is_empty())
    }
}

/// Checks every invariant on one snapshot.
///
/// # Errors
/// The database's.
pub async fn check(db: &Db) -> Result<Report> {
    db.read("ledger.check", |tx: &mut dyn Tx| {
        let (size, mut findings) = check_ledger(tx)?;
        findings.extend(rentals::check::check(tx)?);
        findings.push(disputes::check::check(tx)?);
        findings.push(invoices::check::check(tx)?);
        findings.push(payments::check(tx)?);
        findings.push(earnings::check(tx)?);
        Ok(Report { size, findings })
    })
    .await
}
