//! What the market wants of this node, on disk: the desired state with its generation, and the leases.
//!
//! # Invariants
//! - [`DesiredStore::apply`] returns after both are durable, in one write; until then nobody acts on them.
//! - The generation never goes down. An equal one changes leases only.
//! - A broken file means "nothing is known", never "nothing is wanted": no rental is stopped or removed for it.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shared::{
    clock::Clock,
    wire::desired::{DesiredState, Lease},
};
use tokio::sync::watch;

use crate::{
    lease::{Leases, Now},
    sealed_file::{Loaded, SealedFile},
};

const FILE_NAME: &str = "desired.json";

/// The market's wish as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// What must run; `None` as long as nothing is known.
    pub desired: Option<DesiredState>,
    /// How long it may.
    pub leases: Leases,
}

impl Wish {
    /// Generation of the desired state; 0 while nothing is known.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.desired.as_ref().map_or(0, |state| state.generation)
    }

    /// What follows from a reply: the wish to be, or `None` when nothing changes.
    fn after(
        &self,
        desired: DesiredState,
        granted: &[Lease],
        sent_boot_ms: i64,
        now: Now,
    ) -> Option<Self> {
        let mut next = self.clone();
        match &self.desired {
            Some(known) if desired.generation < known.generation => {
                tracing::warn!(
                    generation.known = known.generation,
                    generation.refused = desired.generation,
                    "a desired state older than the one on disk was refused with its leases"
                );
                return None;
            }
            Some(known) if desired.generation == known.generation => {
                if *known != desired {
                    tracing::error!(
                        generation.known = known.generation,
                        "a desired state differs from the one on disk but has its generation; only its leases are taken"
                    );
                }
            }
            _ => next.desired = Some(desired),
        }
        let rentals = next.desired.as_ref().map_or(&[][..], |d| &d.rentals);
        next.leases.grant(rentals, granted, sent_boot_ms, now);
        (next != *self).then_some(next)
    }
}

/// The wish on disk and in memory.
#[derive(Debug)]
pub struct DesiredStore {
    file: SealedFile,
    clock: Arc<dyn Clock>,
    current: watch::Sender<Arc<Wish>>,
    writing: Mutex<()>,
}

impl DesiredStore {
    /// Reads what is on disk in `folder`, in terms of the boot `boot_id`.
    ///
    /// # Errors
    /// The file is there but can't be read or moved aside. (A broken one is no error: it counts as nothing known.)
    pub fn open(folder: &Path, clock: Arc<dyn Clock>, boot_id: String) -> anyhow::Result<Self> {
        let file = SealedFile::new(folder, FILE_NAME);
        let loaded = file
            .load::<Wish>()
            .with_context(|| format!("can't read {FILE_NAME} in {}", folder.display()))?;
        let nothing_known = |boot_id| Wish {
            desired: None,
            leases: Leases::none(boot_id),
        };
        let wish = match loaded {
            Loaded::Whole(wish) => Wish {
                leases: wish.leases.in_boot(&boot_id, Now::read(clock.as_ref())),
                ..wish
            },
            Loaded::Absent => nothing_known(boot_id),
            Loaded::Corrupt { kept_at, why } => {
                tracing::error!(
                    file.kept_at = %kept_at.display(),
                    file.fault = why,
                    "the desired state on disk is broken; rentals stay as they are until the coordinator answers"
                );
                nothing_known(boot_id)
            }
        };
        Ok(Self {
            file,
            clock,
            current: watch::Sender::new(Arc::new(wish)),
            writing: Mutex::new(()),
        })
    }

    /// The wish and its changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Wish>> {
        self.current.subscribe()
    }

    /// The wish now.
    #[must_use]
    pub fn current(&self) -> Arc<Wish> {
        self.current.borrow().clone()
    }

    /// Takes a reply; returns when what it changed is durable.
    ///
    /// # Errors
    /// The disk refused; nothing changed.
    pub async fn apply(
        self: &Arc<Self>,
        desired: DesiredState,
        granted: Vec<Lease>,
        sent_boot_ms: i64,
    ) -> anyhow::Result<()> {
        // one blocking piece, so that a caller who goes away in the middle leaves no half-done write behind
        let store = Arc::clone(self);
        tokio::task::spawn_blocking(move || store.apply_now(desired, &granted, sent_boot_ms))
            .await?
    }

    fn apply_now(
        &self,
        desired: DesiredState,
        granted: &[Lease],
        sent_boot_ms: i64,
    ) -> anyhow::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Now::read(self.clock.as_ref());
        let Some(next) = self.current().after(desired, granted, sent_boot_ms, now) else {
            return Ok(());
        };
        self.file.save(&next).context(
            "can't write the desired state to disk; check space and rights of the agent's folder",
        )?;
        self.current.send_replace(Arc::new(next));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
