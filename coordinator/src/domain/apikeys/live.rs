//! Keys that were found lately, so that not every request asks the database.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use shared::id::ApiKeyId;

use super::{Known, NOTED_MS, TRUSTED_MS};

const ENTRIES_MAX: usize = 10_000;

/// The memory of keys.
#[derive(Debug, Default)]
pub struct LiveKeys {
    entries: Mutex<HashMap<ApiKeyId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    checked_ms: i64,
    noted_ms: Option<i64>,
}

impl LiveKeys {
    /// Forgets a key: its next use asks the database.
    pub fn forget(&self, id: ApiKeyId) {
        self.lock().remove(&id);
    }

    pub(super) fn get(&self, id: ApiKeyId, now_ms: i64) -> Option<Known> {
        self.lock()
            .get(&id)
            .filter(|entry| now_ms.saturating_sub(entry.checked_ms) < TRUSTED_MS)
            .map(|entry| entry.known.clone())
    }

    pub(super) fn put(&self, id: ApiKeyId, known: Known, now_ms: i64) {
        let mut entries = self.lock();
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, entry| now_ms.saturating_sub(entry.checked_ms) < TRUSTED_MS);
            if entries.len() >= ENTRIES_MAX {
                entries.clear();
            }
        }
        let noted_ms = entries.get(&id).and_then(|entry| entry.noted_ms);
        let entry = Entry {
            known,
            checked_ms: now_ms,
            noted_ms,
        };
        entries.insert(id, entry);
    }

    /// Whether the use of a key is to be noted now; says so to one of several who ask at once.
    pub(super) fn is_note_due(&self, id: ApiKeyId, now_ms: i64) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&id) else {
            return true;
        };
        let due = entry
            .noted_ms
            .is_none_or(|noted_ms| now_ms.saturating_sub(noted_ms) >= NOTED_MS);
        if due {
            entry.noted_ms = Some(now_ms);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ApiKeyId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
