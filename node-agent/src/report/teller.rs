//! How the agent is doing, put together for whoever asks: the file of each beat, and the person in front of the machine.
//!
//! # Invariants
//! - It only looks: asking changes no counter and no record.

use std::sync::Arc;

use shared::{
    resources::{Finding, FindingStatus, Inventory, Load},
    time::Timestamp,
};
use tokio::sync::watch;

use super::{Contact, Shared};
use crate::{
    identity::Identity,
    operator::orders::Orders,
    status::{Kept, Status},
};

/// Knows where to look.
#[derive(Clone)]
pub struct Teller {
    pub(super) shared: Shared,
    pub(super) identity: Identity,
    pub(super) contact: watch::Receiver<Contact>,
    pub(super) inventory: watch::Receiver<Arc<Inventory>>,
    pub(super) orders: Arc<Orders>,
    pub(super) started_at: Timestamp,
    /// When a beat was last answered, and the load that it told.
    pub(super) answered: watch::Receiver<Option<(Timestamp, Load)>>,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").finish_non_exhaustive()
    }
}

impl Teller {
    /// How it is doing now.
    ///
    /// # Errors
    /// The journal can't be asked.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let contact = self.contact.borrow().clone();
        let live = self.shared.rentals.live().borrow().clone();
        let fault = self.shared.metering_fault.borrow().clone();
        let (node_id, url) = (self.identity.node_id, self.identity.url.as_str().to_owned());
        let now = self.shared.clock.now();
        let answered = self.answered.borrow().clone();
        let kept = Kept {
            started_at: Some(self.started_at),
            last_answer_at: answered.as_ref().map(|(at, _)| *at),
            standing: self.orders.standing().borrow().clone(),
            orders_waiting: self.orders.waiting(),
            memory_pressure: answered.and_then(|(_, load)| load.memory_pressure),
            findings: findings(&self.inventory.borrow()),
        };
        self.shared
            .with_meter(move |meter| {
                let (in_use, records) = (meter.look(), meter.journal().size()?);
                let journal = meter.journal();
                let mut status = Status::new(node_id, url, now, &contact, fault, journal, &live);
                status.add(kept, in_use, records);
                Ok(status)
            })
            .await?
    }
}

/// What isn't as it should be, the engine's absence first.
fn findings(inventory: &Inventory) -> Vec<Finding> {
    let engine = inventory.docker_absent_reason.iter().map(|reason| {
        Finding::new(
            "docker",
            FindingStatus::Failed,
            &format!("no rentals are taken: {reason}"),
            "start Docker (systemctl start docker) and the helper (systemctl start ramarket-helper); the agent finds them by itself",
        )
    });
    let isolation = inventory.isolation.iter().flat_map(|isolation| {
        let weak = isolation.findings.iter();
        weak.filter(|finding| finding.status != FindingStatus::Ok)
            .cloned()
    });
    let shortage = inventory.shortage.iter().map(|why| {
        Finding::new(
            "disk_space",
            FindingStatus::Failed,
            &format!("no rentals are taken: {why}"),
            "make room on that disk; the agent goes on by itself",
        )
    });
    engine.chain(shortage).chain(isolation).collect()
}
