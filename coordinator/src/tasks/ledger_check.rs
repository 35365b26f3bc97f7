//! Watches the books each minute, also against the chain where one can be asked, and sweeps all of them each day.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::time::Timestamp;

use super::Task;
use crate::{
    app::App,
    books::{
        first_broken,
        sweep::{self, Place},
        watch,
    },
    error::Result,
};

/// The name of the task that watches.
pub const NAME: &str = "ledger_check";
/// The name of the task that sweeps.
pub const SWEEP_NAME: &str = "ledger_sweep";
/// How often it is looked whether a sweep is due, milliseconds.
pub const SWEEP_PERIOD_MS: u32 = 600_000;
/// A sweep begins so long after the one before began.
const SWEEP_EVERY_MS: i64 = 86_400_000;
/// Pages of one activation; what is left is for the next, at once.
const PAGES_MAX: usize = 200;

/// The task that watches.
pub struct LedgerCheck {
    app: Arc<App>,
    was_short: bool,
}

impl LedgerCheck {
    /// Nothing was found yet.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self {
            app,
            was_short: false,
        }
    }

    /// I8: counts when it is found twice, since one answer of a node that lags behind proves nothing. That a chain can't be asked
    /// is no break.
    async fn reserves(&mut self) -> Result<Value> {
        let finding = match self.app.payouts.check_reserves().await {
            Ok(finding) => finding,
            Err(error) => {
                tracing::warn!(%error, "what our addresses have can't be compared with the books");
                return Ok(json!("unknown"));
            }
        };
        let is_short = !finding.broken.is_empty();
        let was_short = std::mem::replace(&mut self.was_short, is_short);
        if is_short && was_short {
            watch::act_on(&self.app, std::slice::from_ref(&finding)).await?;
        }
        Ok(if is_short {
            json!(finding.broken)
        } else {
            json!("hold")
        })
    }
}

#[async_trait]
impl Task for LedgerCheck {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let passed = watch::pass_and_act(&self.app).await?;
        let reserves = self.reserves().await?;
        Ok(json!({
            "holds": passed.findings.is_empty(),
            "reserves": reserves,
            "pages": passed.pages,
            "findings": passed.findings,
            "alarms": passed.alarms,
        }))
    }
}

/// The task that sweeps, and how far it is.
pub struct LedgerSweep {
    app: Arc<App>,
    place: Option<Place>,
    began_at: Option<Timestamp>,
    broken: usize,
}

impl LedgerSweep {
    /// Begins at its first activation.
    #[must_use]
    pub const fn new(app: Arc<App>) -> Self {
        Self {
            app,
            place: None,
            began_at: None,
            broken: 0,
        }
    }
}

#[async_trait]
impl Task for LedgerSweep {
    fn name(&self) -> &'static str {
        SWEEP_NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let now = self.app.clock.now();
        let is_due = self
            .began_at
            .is_none_or(|began| now.ms_since(began) >= SWEEP_EVERY_MS);
        if self.place.is_none() && is_due {
            (self.place, self.began_at, self.broken) = (Some(Place::beginning()), Some(now), 0);
        }
        let mut pages = 0;
        while let Some(place) = self.place.clone() {
            if pages == PAGES_MAX {
                self.app.tasks.poke(SWEEP_NAME);
                break;
            }
            let page = move |tx: &mut dyn crate::store::Tx| sweep::page(tx, &place);
            let (findings, next) = self.app.db.read("ledger.sweep", page).await?;
            self.broken += findings.iter().map(|it| it.broken.len()).sum::<usize>();
            if first_broken(&findings).is_some() {
                watch::act_on(&self.app, &findings).await?;
            }
            self.place = next;
            pages += 1;
        }
        Ok(json!({
            "began_at": self.began_at,
            "pages": pages,
            "done": self.place.is_none(),
            "broken": self.broken,
        }))
    }
}
