//! How many there are at once, by key: connections of an address, of a rental.
//!
//! # Invariants
//! - A place is counted as long as its [`Place`] lives; keys without places take no memory.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

/// Places by key.
#[derive(Debug)]
pub(super) struct Counts<K> {
    taken: Mutex<HashMap<K, u32>>,
    each_max: u32,
}

/// A place that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash> {
    counts: Arc<Counts<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Counts<K> {
    pub(super) fn new(each_max: u32) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            each_max,
        })
    }

    /// A place, unless there are as many as may be.
    pub(super) fn take(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(key.clone()).or_default();
        if *count >= self.each_max {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place {
            counts: Arc::clone(self),
            key,
        })
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let taken = self.counts.taken.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_places_and_gives_them_back() {
        let counts = Counts::new(2);
        let first = counts.take("a").expect("one");
        let _second = counts.take("a").expect("two");
        assert!(counts.take("a").is_none());
        let other = counts.take("b").expect("another key");
        drop(first);
        drop(other);
        let _again = counts.take("a").expect("room again");
        assert_eq!(counts.taken.lock().expect("fine").len(), 1);
    }
}
