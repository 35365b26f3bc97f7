//! What a node must run, from the rows of its rentals.

use shared::{
    time::Timestamp,
    wire::{
        desired::{DesiredRental, DesiredState, Lease, PullSecret, Wanted},
        observed::Phase,
    },
};

use super::model::{Rental, State};
use crate::{error::Result, keys::Sealer};

/// What a node is told of its rentals.
#[derive(Debug)]
pub struct Told {
    /// What it must run.
    pub desired: DesiredState,
    /// For how long.
    pub leases: Vec<Lease>,
    /// What private images are fetched with that may still have to be.
    pub pull_secrets: Vec<PullSecret>,
}

/// What a node is told whose live rentals are `rentals` (sorted by id), their specifications opened.
///
/// # Errors
/// Internal: a specification was sealed by another key. Nothing is desired then: a rental that is left out would be stopped.
pub fn desired(
    generation: i64,
    rentals: &[Rental],
    now: Timestamp,
    specs: &Sealer,
) -> Result<Told> {
    let known = rentals
        .iter()
        .filter(|rental| matches!(rental.state, State::Active | State::Stopping));
    let (mut wanted, mut pull_secrets) = (Vec::new(), Vec::new());
    for rental in known.clone() {
        let (spec, auth) = rental.spec.open(specs, rental.lease_id)?;
        let private_image = auth.is_some();
        if let Some(auth) = auth.filter(|_| may_pull(rental)) {
            pull_secrets.push(PullSecret {
                rental_id: rental.id,
                auth,
            });
        }
        wanted.push(DesiredRental {
            rental_id: rental.id,
            lease_id: rental.lease_id,
            wanted: if rental.state == State::Active {
                Wanted::Run
            } else {
                Wanted::Stop
            },
            spec,
            resources: rental.resources,
            gpus: rental.gpus.clone(),
            internet: rental.internet,
            isolation: rental.isolation,
            image: rental.image.clone(),
            private_image,
        });
    }
    let leases = known
        .filter(|rental| rental.state == State::Active)
        .map(|rental| Lease {
            rental_id: rental.id,
            lease_id: rental.lease_id,
            lease_ms: rental.lease_until.ms_since(now).max(0),
        });
    Ok(Told {
        desired: DesiredState {
            generation,
            rentals: wanted,
        },
        leases: leases.collect(),
        pull_secrets,
    })
}

/// Whether its image may still have to be fetched: it is to run, and has no container yet.
const fn may_pull(rental: &Rental) -> bool {
    matches!(rental.state, State::Active)
        && rental.started_at.is_none()
        && matches!(
            rental.phase,
            Phase::Pending | Phase::Pulling { .. } | Phase::Starting
        )
}
