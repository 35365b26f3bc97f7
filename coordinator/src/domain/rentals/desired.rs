//! What a node must run, from the rows of its rentals.

use shared::{
    time::Timestamp,
    wire::desired::{DesiredRental, DesiredState, Lease, Wanted},
};

use super::model::{Rental, State};
use crate::{error::Result, keys::Sealer};

/// The desired state and the leases of a node whose live rentals are `rentals` (sorted by id), their specifications opened.
///
/// # Errors
/// Internal: a specification was sealed by another key. Nothing is desired then: a rental that is left out would be stopped.
pub fn desired(
    generation: i64,
    rentals: &[Rental],
    now: Timestamp,
    specs: &Sealer,
) -> Result<(DesiredState, Vec<Lease>)> {
    let known = rentals
        .iter()
        .filter(|rental| matches!(rental.state, State::Active | State::Stopping));
    let wanted = known.clone().map(|rental| {
        Ok(DesiredRental {
            rental_id: rental.id,
            lease_id: rental.lease_id,
            wanted: if rental.state == State::Active {
                Wanted::Run
            } else {
                Wanted::Stop
            },
            spec: rental.spec.open(specs, rental.lease_id)?,
            resources: rental.resources,
            gpus: rental.gpus.clone(),
            internet: rental.internet,
            isolation: rental.isolation,
        })
    });
    let leases = known
        .filter(|rental| rental.state == State::Active)
        .map(|rental| Lease {
            rental_id: rental.id,
            lease_id: rental.lease_id,
            lease_ms: rental.lease_until.ms_since(now).max(0),
        });
    Ok((
        DesiredState {
            generation,
            rentals: wanted.collect::<Result<_>>()?,
        },
        leases.collect(),
    ))
}
