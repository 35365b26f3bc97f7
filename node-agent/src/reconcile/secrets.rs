//! What private images are fetched with: told with each reply, used for one call, never on disk.
//!
//! # Invariants
//! - Only the last reply's are held: what the market no longer tells is forgotten with the next beat.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use shared::{id::RentalId, image::RegistryAuth, wire::desired::PullSecret};

/// Credentials by rental.
#[derive(Debug, Default)]
pub(super) struct Secrets(Mutex<HashMap<RentalId, RegistryAuth>>);

impl Secrets {
    /// Takes those of a reply in place of those before.
    pub(super) fn replace(&self, told: Vec<PullSecret>) {
        let told = told
            .into_iter()
            .map(|secret| (secret.rental_id, secret.auth));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = told.collect();
    }

    /// Those of a rental, if its image is private.
    pub(super) fn of(&self, rental: RentalId) -> Option<RegistryAuth> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&rental).cloned()
    }
}
