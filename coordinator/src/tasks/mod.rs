//! The built-in timers: the register of all of them. The driver knows nothing of the business; a task is small and only
//! calls services.
//!
//! # Invariants
//! - Level-triggered: an activation takes no input, looks at the state of things and does what is due. A lost poke,
//!   a crash or a failure is made good by the next activation.
//! - One activation of a task runs at a time in this process; several processes may run the same task, so each is
//!   safe to run twice.

pub mod analytics;
pub mod audit_checkpoint;
mod driver;
mod each;
pub mod event_relay;
pub mod expiry;
pub mod facilitator;
pub mod forgetting;
pub mod invoices;
pub mod kyc;
pub mod leases;
pub mod ledger_check;
pub mod liveness;
pub mod mail;
pub mod market_feed;
pub mod payments;
pub mod payouts;
pub mod rates;
pub mod retention;
pub mod settlement;
pub mod spending;
#[cfg(test)]
mod tests;
pub mod upkeep;
pub mod uptime;
pub mod webhook_courier;
pub mod webhooks;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;

pub use self::driver::{Task, TaskReport, Tasks};
use self::event_relay::EventRelay;
use crate::{app::App, lifecycle::Lifecycle};

/// Starts every built-in timer. One line each.
///
/// # Errors
/// A timer can't be started.
pub fn start(app: &Arc<App>, lifecycle: &Lifecycle) -> anyhow::Result<()> {
    let every = |ms: u32| Duration::from_millis(u64::from(ms));
    let periods = &app.config.tasks;
    let start = |ms, task| app.tasks.spawn(app, lifecycle, every(ms), task);
    let own = || Arc::clone(app);
    start(periods.event_relay_ms, Box::new(EventRelay::new(app)))?;
    start(uptime::PERIOD_MS, Box::new(uptime::Uptime(own())))?;
    start(periods.liveness_ms, Box::new(liveness::Liveness(own())))?;
    start(periods.leases_ms, Box::new(leases::Leases(own())))?;
    start(periods.spending_ms, Box::new(spending::Spending(own())))?;
    start(periods.expiry_ms, Box::new(expiry::Expiry(own())))?;
    start(upkeep::PERIOD_MS, Box::new(upkeep::Upkeep(own())))?;
    start(
        periods.settlement_ms,
        Box::new(settlement::Settlement::new(own())),
    )?;
    start(periods.payments_ms, Box::new(payments::Payments(own())))?;
    start(periods.payouts_ms, Box::new(payouts::Payouts::new(own())))?;
    start(invoices::PERIOD_MS, Box::new(invoices::Invoices(own())))?;
    start(periods.kyc_ms, Box::new(kyc::Kyc(own())))?;
    start(
        facilitator::PERIOD_MS,
        Box::new(facilitator::FacilitatorCheck::new(own())),
    )?;
    start(
        app.config.rates.refresh_s.saturating_mul(1_000),
        Box::new(rates::RatesRefresh::new(own())),
    )?;
    let checkpoint = audit_checkpoint::AuditCheckpoint::new(own());
    start(
        app.config.audit.checkpoint_s.saturating_mul(1_000),
        Box::new(checkpoint),
    )?;
    start(
        periods.ledger_check_ms,
        Box::new(ledger_check::LedgerCheck::new(own())),
    )?;
    start(
        ledger_check::SWEEP_PERIOD_MS,
        Box::new(ledger_check::LedgerSweep::new(own())),
    )?;
    start(periods.mail_ms, Box::new(mail::MailRound(own())))?;
    start(periods.analytics_ms, Box::new(analytics::Analytics(own())))?;
    start(
        periods.retention_ms,
        Box::new(retention::Retention::new(own())),
    )?;
    start(
        periods.forgetting_ms,
        Box::new(forgetting::Forgetting(own())),
    )?;
    start(periods.webhooks_ms, Box::new(webhooks::Webhooks(own())))?;
    start(
        periods.webhook_courier_ms,
        Box::new(webhook_courier::WebhookCourier(own())),
    )?;
    lifecycle.spawn("market_feed", market_feed::follow(own()));
    let (agents, shutdown) = (Arc::clone(&app.agents), app.shutdown.clone());
    lifecycle.spawn("ingest", async move { agents.run_ingest(shutdown).await });
    wake_on_commit(app, lifecycle, &[event_relay::NAME]);
    Ok(())
}

/// Pokes tasks whenever something was committed here.
fn wake_on_commit(app: &Arc<App>, lifecycle: &Lifecycle, names: &'static [&'static str]) {
    let app = Arc::clone(app);
    lifecycle.spawn("wake_on_commit", async move {
        let mut committed = app.db.committed();
        while let Some(change) = app.shutdown.run_until_cancelled(committed.changed()).await {
            change.context("the database is gone")?;
            for name in names {
                app.tasks.poke(name);
            }
        }
        Ok(())
    });
}
