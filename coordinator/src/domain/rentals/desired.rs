//! What a node must run, from the rows of its rentals.

use shared::{
    time::Timestamp,
    wire::desired::{DesiredRental, DesiredState, Lease, Wanted},
};

use super::model::{Rental, State};

/// The desired state and the leases of a node whose live rentals are `rentals` (sorted by id).
#[must_use]
pub fn desired(generation: i64, rentals: &[Rental], now: Timestamp) -> (DesiredState, Vec<Lease>) {
    let known = rentals
        .iter()
        .filter(|rental| matches!(rental.state, State::Active | State::Stopping));
    let wanted = known.clone().map(|rental| DesiredRental {
        rental_id: rental.id,
        lease_id: rental.lease_id,
        wanted: if rental.state == State::Active {
            Wanted::Run
        } else {
            Wanted::Stop
        },
        spec: rental.spec.clone(),
        resources: rental.resources,
    });
    let leases = known
        .filter(|rental| rental.state == State::Active)
        .map(|rental| Lease {
            rental_id: rental.id,
            lease_id: rental.lease_id,
            lease_ms: rental.lease_until.ms_since(now).max(0),
        });
    (
        DesiredState {
            generation,
            rentals: wanted.collect(),
        },
        leases.collect(),
    )
}
