//! Looks at the whole folder of disks, and what is put away by them.
//!
//! # Invariants
//! - A pass has the turn: nothing else changes the folder meanwhile. Who has a container is asked after it began, so a creation that came
//!   before it is in hand or has its container in the answer, and one that comes later waits.
//! - Each step is safe to repeat.

use std::{collections::BTreeSet, io, os::unix::fs::MetadataExt as _, path::Path};

use shared::id::RentalId;

use super::{
    names::Name,
    tools,
    volumes::{Volumes, remove, rename, reserve, wipe},
};

/// What becomes of a disk that is put away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is kept for the grace.
    Grace,
    /// It is wiped now: nobody ever wrote to it.
    Nothing,
}

/// One look at the folder, during which nothing else changes it.
#[derive(Debug)]
pub struct Pass<'a> {
    volumes: &'a Volumes,
    _turn: tokio::sync::MutexGuard<'a, ()>,
    found: Vec<Name>,
    in_hand: BTreeSet<RentalId>,
}

impl Volumes {
    /// Begins a look at everything.
    ///
    /// # Errors
    /// The folder can't be read.
    pub async fn pass(&self) -> io::Result<Pass<'_>> {
        let turn = self.turn.lock().await;
        let in_hand = self.hands().clone();
        Ok(Pass {
            volumes: self,
            _turn: turn,
            found: self.found()?,
            in_hand,
        })
    }
}

impl Pass<'_> {
    /// Rentals that have a disk and no container: theirs is over. `live`: those that have one, read after the pass began.
    #[must_use]
    pub fn ended(&self, live: &BTreeSet<RentalId>) -> Vec<RentalId> {
        let disks = self.found.iter().filter_map(|name| match name {
            Name::Disk(id) => Some(*id),
            _ => None,
        });
        disks.filter(|id| !self.is_needed(*id, live)).collect()
    }

    /// Whether its container is being created.
    #[must_use]
    pub fn in_hand(&self, id: RentalId) -> bool {
        self.in_hand.contains(&id)
    }

    fn is_needed(&self, id: RentalId, live: &BTreeSet<RentalId>) -> bool {
        live.contains(&id) || self.in_hand(id)
    }

    /// Ends what a rental has: no link, no loop device, and the file kept for the grace or wiped.
    ///
    /// # Errors
    /// Something refuses; the next pass takes it up where this one stopped.
    pub async fn release(&self, id: RentalId, keep: Keep) -> anyhow::Result<()> {
        let volumes = self.volumes;
        let disk = volumes.path(Name::Disk(id));
        if !disk.exists() {
            return Ok(());
        }
        remove(&volumes.path(Name::Link(id)))?;
        if !unloop(|file| file == disk).await? {
            anyhow::bail!("its disk is still mounted somewhere; it is looked at again");
        }
        if keep == Keep::Nothing {
            return wipe(disk).await;
        }
        let grace_s = i64::from(volumes.settings.grace_s);
        let until_s = volumes.clock.now().as_micros().div_euclid(1_000_000) + grace_s;
        rename(&disk, &volumes.path(Name::Kept(id, until_s)))?;
        tracing::info!(rental.id = %id, disk.kept_s = grace_s, "a rental's disk is kept for its grace");
        Ok(())
    }

    /// Leads every other state to where it belongs: what wasn't finished and what is past its grace is removed, loop devices and links
    /// that nobody needs go, and those that are needed come back after a restart of the machine.
    ///
    /// # Errors
    /// Something refuses; the next pass tries again.
    pub async fn tidy(&self, live: &BTreeSet<RentalId>) -> anyhow::Result<()> {
        let volumes = self.volumes;
        let now_s = volumes.clock.now().as_micros().div_euclid(1_000_000);
        let found = volumes.found()?;
        for name in &found {
            match name {
                Name::Making(id) if !self.is_needed(*id, &BTreeSet::new()) => {
                    wipe(volumes.path(*name)).await?;
                }
                Name::Kept(id, until_s) if *until_s <= now_s => {
                    wipe(volumes.path(*name)).await?;
                    tracing::info!(rental.id = %id, "a rental's disk was wiped");
                }
                Name::Link(id) if !found.contains(&Name::Disk(*id)) => {
                    remove(&volumes.path(*name))?;
                }
                Name::Disk(id) if live.contains(id) => {
                    volumes.lead_to(*id).await?;
                    whole(&volumes.path(*name)).await?;
                }
                _ => {}
            }
        }
        let ours = |file: &Path| {
            let name = file.strip_prefix(&volumes.settings.folder).ok();
            let name = name.and_then(Path::to_str);
            name.is_some_and(|name| match Name::parse(name) {
                Some(Name::Disk(id)) => !self.is_needed(id, live),
                _ => true,
            })
        };
        unloop(ours).await?;
        Ok(())
    }
}

/// Takes away the loop devices of some files; whether all are gone, which those that are mounted aren't yet.
async fn unloop(mut of: impl FnMut(&Path) -> bool) -> anyhow::Result<bool> {
    let mut some = false;
    for found in tools::loops().await? {
        if of(&found.file) {
            tools::detach(&found.device).await?;
            some = true;
        }
    }
    Ok(!some || !tools::loops().await?.iter().any(|left| of(&left.file)))
}

/// Reserves again what the file system gave back: it says of blocks that hold zeros that they needn't be there.
async fn whole(file: &Path) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(file)?;
    if metadata.blocks().saturating_mul(512) < metadata.size() {
        reserve(file.to_owned(), i64::try_from(metadata.size())?).await?;
    }
    Ok(())
}
