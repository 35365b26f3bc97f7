//! A pass over what was posted since the last one, and what is done about a break.
//!
//! # Invariants
//! - Every page is read on one snapshot, and none grows with the tables.
//! - Several coordinators may pass at once: folds move under a guard, and looking twice does no harm.
//! - A pass that found a break goes on to its end and is noted: what holds money back is the durable halt, not the position.

use std::sync::Arc;

use serde::Serialize;
use shared::time::Timestamp;

use super::{alarms, first_broken};
use crate::{
    app::App,
    domain::{
        audit, invoices,
        ledger::{
            check::Finding,
            halt,
            watch::{self, Positions, Stretch},
        },
        metering, payments, rentals,
    },
    error::Result,
    store::{Db, Tx},
};

/// Pages of folding in one pass; what is left is for the next.
const FOLDS_MAX: usize = 2_000;

/// What a pass came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Passed {
    /// Pages of transfers, journals and the audit log that were looked at.
    pub pages: usize,
    /// Folds that were made anew.
    pub refolded: usize,
    /// What is broken.
    pub findings: Vec<Finding>,
    /// What is late.
    pub alarms: Vec<Finding>,
}

/// Watches what was posted since the last pass.
///
/// # Errors
/// The database's.
pub async fn pass(db: &Db, now: Timestamp) -> Result<Passed> {
    for _ in 0..FOLDS_MAX {
        if !db
            .write("ledger.fold", move |tx| watch::fold(tx, now))
            .await?
        {
            break;
        }
    }
    let positions = db.read("ledger.positions", watch::positions).await?;
    let mut passed = Passed::default();
    transfers(db, &positions, now, &mut passed).await?;
    let since = positions.next_from();
    let documents = db.read("ledger.documents", move |tx| {
        invoices::check::check_since(tx, since)
    });
    passed.findings.push(documents.await?);
    journals(db, &positions, now, &mut passed).await?;
    let followed = audit_log(db, &positions, &mut passed).await?;
    passed.alarms = db.read("ledger.alarms", move |tx| alarms(tx, now)).await?;
    passed.alarms.retain(|alarm| !alarm.broken.is_empty());
    passed.findings.retain(|finding| !finding.broken.is_empty());
    db.write("ledger.watched", move |tx| {
        watch::note_watched(tx, now, &followed)
    })
    .await?;
    Ok(passed)
}

async fn transfers(
    db: &Db,
    positions: &Positions,
    now: Timestamp,
    passed: &mut Passed,
) -> Result<()> {
    let mut from = positions.next_from();
    while from < now {
        let page = db.read("ledger.watch", move |tx| page(tx, from, now));
        let (stretch, watched) = page.await?;
        passed.pages += 1;
        passed.findings.extend(watched.findings);
        for account in watched.stale_folds {
            tracing::warn!(account, "a fold missed a late transfer and is made anew");
            passed.refolded += 1;
            db.write("ledger.refold", move |tx| watch::refold(tx, &account))
                .await?;
        }
        from = stretch.to;
    }
    Ok(())
}

/// A page of transfers with the rentals and payments that they are about.
fn page(tx: &mut dyn Tx, from: Timestamp, now: Timestamp) -> Result<(Stretch, watch::Watched)> {
    let stretch = watch::next_page(tx, from, now)?;
    let mut watched = watch::check(tx, stretch)?;
    let escrows = watch::touched_escrows(tx, stretch)?;
    let ids = rentals::check::rentals_of_escrows(&escrows)?;
    watched
        .findings
        .extend(rentals::check::check_some(tx, &ids, false)?);
    watched
        .findings
        .push(payments::check::check_in(tx, stretch)?);
    Ok((stretch, watched))
}

async fn journals(
    db: &Db,
    positions: &Positions,
    now: Timestamp,
    passed: &mut Passed,
) -> Result<()> {
    let mut place = Some(metering::check::place_at(positions.next_from()));
    while let Some(after) = place {
        let check = move |tx: &mut dyn Tx| metering::check::check_page(tx, &after, now);
        let (finding, next) = db.read("ledger.journals", check).await?;
        passed.pages += 1;
        passed.findings.push(finding);
        place = next;
    }
    Ok(())
}

/// Follows the audit log to its end; where that is.
async fn audit_log(db: &Db, positions: &Positions, passed: &mut Passed) -> Result<(i64, [u8; 32])> {
    let mut place = positions.audit;
    loop {
        let follow = move |tx: &mut dyn Tx| audit::check::follow(tx, place);
        let (report, hash, is_end) = db.read("ledger.audit", follow).await?;
        passed.pages += 1;
        let broken = report.findings.iter();
        let broken = broken.map(|it| format!("audit log {}: {}", it.seq, it.what));
        passed
            .findings
            .push(Finding::new("I12", metering::check::I12, broken.collect()));
        place = (report.last_seq, hash);
        if is_end {
            return Ok(place);
        }
    }
}

/// A pass with all that follows from it: the log, the metrics, and holding money back after a break.
///
/// # Errors
/// The database's.
pub async fn pass_and_act(app: &Arc<App>) -> Result<Passed> {
    let passed = pass(&app.db, app.clock.now()).await?;
    for alarm in &passed.alarms {
        tracing::warn!(
            ledger.invariant = alarm.invariant,
            count = alarm.broken.len(),
            first = alarm.broken.first(),
            "the books are late: {}",
            alarm.statement
        );
    }
    metrics::gauge!("ledger_alarms").set(u32::try_from(passed.alarms.len()).unwrap_or(u32::MAX));
    act_on(app, &passed.findings).await?;
    Ok(passed)
}

/// Holds money back if something is broken, and says whether it is held back.
///
/// # Errors
/// The database's.
pub async fn act_on(app: &Arc<App>, findings: &[Finding]) -> Result<bool> {
    for finding in findings.iter().filter(|it| !it.broken.is_empty()) {
        metrics::counter!("ledger_breaks_total", "invariant" => finding.invariant).increment(1);
        tracing::error!(
            ledger.invariant = finding.invariant,
            broken = ?finding.broken,
            "the books don't add up: {}",
            finding.statement
        );
    }
    if let Some(finding) = first_broken(findings) {
        let (ctx, postbox) = (app.task_context("ledger_check"), Arc::clone(&app.postbox));
        let (invariant, what) = (finding.invariant, finding.broken.join("; "));
        app.db
            .write("ledger.halt", move |tx| {
                halt::engage(tx, &ctx, &postbox, invariant, &what)
            })
            .await?;
    }
    let halted = app.db.read("ledger.halted", halt::current).await?.is_some();
    metrics::gauge!("ledger_halted").set(u32::from(halted));
    Ok(halted)
}
