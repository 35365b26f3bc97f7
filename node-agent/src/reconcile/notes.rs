//! What this agent did to each rental and Docker can't tell afterwards: that it was started, why it was stopped, why it failed.
//!
//! # Invariants
//! - Each note is durable before what follows from it is told to the coordinator, so a restart can't contradict the last beat.
//! - A note belongs to one lease; under another lease the rental is a new one.
//! - When the disk refuses, the note still holds in memory and is written with the next one: a dead-man's switch that waits for
//!   disk space would be none.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use shared::{
    id::{LeaseId, RentalId},
    wire::observed::ExitCause,
};

use crate::sealed_file::{Loaded, SealedFile};

const FILE_NAME: &str = "notes.json";

/// What is noted of one rental.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    /// Under which lease.
    pub(crate) lease_id: LeaseId,
    /// The container that was started; from then on the rental is never started again.
    pub(crate) container_id: Option<String>,
    /// Why the agent stopped it; `None` when it didn't.
    pub(crate) stop: Option<ExitCause>,
    /// Why it is given up.
    pub(crate) failed: Option<Failure>,
}

/// Why a rental was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failure {
    /// One of [`crate::runtime::code`].
    pub(crate) code: String,
    /// In words for the rental's owner.
    pub(crate) reason: String,
}

/// All notes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Notes(BTreeMap<RentalId, Note>);

impl Notes {
    /// What is noted of this rental under this lease.
    pub(crate) fn get(&self, rental_id: RentalId, lease_id: LeaseId) -> Option<&Note> {
        self.0
            .get(&rental_id)
            .filter(|note| note.lease_id == lease_id)
    }

    /// Rentals of which something is noted.
    pub(crate) fn rentals(&self) -> impl Iterator<Item = RentalId> {
        self.0.keys().copied()
    }

    fn of(&mut self, rental_id: RentalId, lease_id: LeaseId) -> &mut Note {
        let fresh = Note {
            lease_id,
            container_id: None,
            stop: None,
            failed: None,
        };
        let note = self.0.entry(rental_id).or_insert_with(|| fresh.clone());
        if note.lease_id != lease_id {
            *note = fresh;
        }
        note
    }

    /// Notes that its container was started, or is about to be.
    pub(crate) fn started(&mut self, rental_id: RentalId, lease_id: LeaseId, container_id: &str) {
        self.of(rental_id, lease_id).container_id = Some(container_id.to_owned());
    }

    /// Notes why it is being stopped. The first reason stays.
    pub(crate) fn stopping(&mut self, rental_id: RentalId, lease_id: LeaseId, cause: ExitCause) {
        self.of(rental_id, lease_id).stop.get_or_insert(cause);
    }

    /// Notes that it is given up. The first failure stays.
    pub(crate) fn failed(&mut self, rental_id: RentalId, lease_id: LeaseId, failure: Failure) {
        self.of(rental_id, lease_id).failed.get_or_insert(failure);
    }

    /// Forgets a rental that left the desired state.
    pub(crate) fn forget(&mut self, rental_id: RentalId) {
        self.0.remove(&rental_id);
    }
}

#[derive(Debug, Default)]
struct Kept {
    notes: Notes,
    /// The disk refused the last write.
    unsaved: bool,
}

/// The notes on disk and in memory.
#[derive(Debug)]
pub(crate) struct NoteStore {
    file: SealedFile,
    kept: Mutex<Kept>,
    writing: Mutex<()>,
}

impl NoteStore {
    /// Reads what is on disk in `folder`.
    ///
    /// # Errors
    /// The file is there but can't be read or moved aside. A broken one counts as no notes.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let file = SealedFile::new(folder, FILE_NAME);
        let loaded = file
            .load::<Notes>()
            .with_context(|| format!("can't read {FILE_NAME} in {}", folder.display()))?;
        let notes = match loaded {
            Loaded::Whole(notes) => notes,
            Loaded::Absent => Notes::default(),
            Loaded::Corrupt { kept_at, why } => {
                tracing::error!(
                    file.kept_at = %kept_at.display(),
                    file.fault = why,
                    "the notes on rentals are broken; why containers were stopped is forgotten"
                );
                Notes::default()
            }
        };
        Ok(Self {
            file,
            kept: Mutex::new(Kept {
                notes,
                unsaved: false,
            }),
            writing: Mutex::new(()),
        })
    }

    /// The notes now.
    pub(crate) fn current(&self) -> Notes {
        self.lock().notes.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the notes; when this returns they are durable, or the disk refused and that is logged.
    pub(crate) async fn change(self: &Arc<Self>, change: impl FnOnce(&mut Notes) + Send + 'static) {
        let store = Arc::clone(self);
        // one blocking piece, so that a task that is aborted in the middle leaves no half-done write behind
        let done = tokio::task::spawn_blocking(move || store.change_now(change)).await;
        if let Err(error) = done {
            tracing::error!(%error, "a note on a rental was lost");
        }
    }

    fn change_now(&self, change: impl FnOnce(&mut Notes)) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = {
            let mut kept = self.lock();
            let before = kept.notes.clone();
            change(&mut kept.notes);
            if kept.notes == before && !kept.unsaved {
                return;
            }
            kept.notes.clone()
        };
        let saved = self.file.save(&notes);
        self.lock().unsaved = saved.is_err();
        if let Err(error) = saved {
            tracing::error!(%error, "the notes on rentals can't be written; check space and rights of the agent's folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::id::Ids;

    use super::*;
    use crate::testing::TempDir;

    #[tokio::test]
    async fn notes_survive_a_restart_and_belong_to_one_lease() {
        let folder = TempDir::new();
        let store = Arc::new(NoteStore::open(folder.path()).expect("opened"));
        let ids = Ids::counting();
        let (rental, lease, later_lease) = (ids.mint(), ids.mint(), ids.mint());
        store
            .change(move |notes| {
                notes.started(rental, lease, "abc");
                notes.stopping(rental, lease, ExitCause::LeaseEnded);
                notes.stopping(rental, lease, ExitCause::Wanted);
            })
            .await;
        let again = NoteStore::open(folder.path()).expect("opened");
        let notes = again.current();
        let note = notes.get(rental, lease).expect("noted");
        assert_eq!(note.container_id.as_deref(), Some("abc"));
        assert_eq!(note.stop, Some(ExitCause::LeaseEnded), "the first stays");
        assert_eq!(notes.get(rental, later_lease), None);
    }

    #[tokio::test]
    async fn what_the_disk_refused_holds_in_memory_and_is_written_later() {
        let folder = TempDir::new();
        let store = Arc::new(NoteStore::open(folder.path()).expect("opened"));
        let in_the_way = folder.path().join("notes.json.spare");
        std::fs::create_dir(&in_the_way).expect("made");
        let ids = Ids::counting();
        let (rental, lease) = (ids.mint(), ids.mint());
        store
            .change(move |notes| notes.stopping(rental, lease, ExitCause::Wanted))
            .await;
        assert!(store.current().get(rental, lease).is_some());
        assert_eq!(
            NoteStore::open(folder.path()).expect("opened").current(),
            Notes::default()
        );
        std::fs::remove_dir(&in_the_way).expect("removed");
        store.change(|_| ()).await;
        assert_eq!(
            NoteStore::open(folder.path()).expect("opened").current(),
            store.current()
        );
    }
}
