//! How many streams may be open: of one rental, of one who rents, in all. Given back when a stream is dropped.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::id::RentalId;

use crate::error::{Error, Kind, Result};

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// In all.
    pub all: usize,
    /// Of one who rents.
    pub renter: usize,
    /// Of one rental.
    pub rental: usize,
}

/// Streams that are open.
#[derive(Debug)]
pub struct Places {
    bounds: Bounds,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    renters: HashMap<String, usize>,
    rentals: HashMap<RentalId, usize>,
}

/// A stream's place.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    renter: String,
    rental: RentalId,
}

impl Places {
    /// None is taken.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            taken: Mutex::default(),
        }
    }

    /// A place for a stream of a rental, whose renter is named so that no two have one name.
    ///
    /// # Errors
    /// 429 when as many as may be are open.
    pub fn take(self: &Arc<Self>, rental: RentalId, renter: String) -> Result<Place> {
        let mut taken = self.lock();
        let of_renter = taken.renters.get(&renter).copied().unwrap_or_default();
        let of_rental = taken.rentals.get(&rental).copied().unwrap_or_default();
        let of_whom = if of_rental >= self.bounds.rental {
            "this rental has"
        } else if of_renter >= self.bounds.renter {
            "your rentals have together"
        } else if taken.all >= self.bounds.all {
            "this market has"
        } else {
            taken.all += 1;
            *taken.renters.entry(renter.clone()).or_default() += 1;
            *taken.rentals.entry(rental).or_default() += 1;
            metrics::gauge!("gateway_streams").increment(1.0);
            return Ok(Place {
                places: Arc::clone(self),
                renter,
                rental,
            });
        };
        Err(Error::new(
            Kind::TooMany { retry_after_s: 5 },
            "too_many_streams",
            format!("{of_whom} as many open streams as may be: end one first"),
        ))
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(count) = taken.renters.get_mut(&self.renter) {
            *count -= 1;
            if *count == 0 {
                taken.renters.remove(&self.renter);
            }
        }
        if let Some(count) = taken.rentals.get_mut(&self.rental) {
            *count -= 1;
            if *count == 0 {
                taken.rentals.remove(&self.rental);
            }
        }
        metrics::gauge!("gateway_streams").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use shared::id::Ids;

    use super::*;

    #[test]
    fn each_bound_holds_and_places_come_back() {
        let bounds = Bounds {
            all: 4,
            renter: 3,
            rental: 2,
        };
        let places = Arc::new(Places::new(bounds));
        let ids = Ids::counting();
        let rentals: Vec<RentalId> = (0..4).map(|_| ids.mint()).collect();
        let take = |rental: usize, renter: &str| places.take(rentals[rental], renter.to_owned());
        let first = take(0, "a").expect("room");
        let mut held = vec![take(0, "a").expect("room")];
        let refused = take(0, "a").expect_err("two of this rental");
        assert_eq!(refused.code(), "too_many_streams");
        held.push(take(1, "a").expect("room"));
        take(2, "a").expect_err("three of this renter");
        held.push(take(2, "b").expect("room"));
        take(3, "c").expect_err("four in all");
        drop(first);
        held.push(take(3, "c").expect("room again"));
        held.clear();
        let taken = places.lock();
        assert_eq!(taken.all, 0);
        assert!(taken.renters.is_empty() && taken.rentals.is_empty());
    }
}
