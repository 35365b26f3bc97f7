//! Who reads logs now.
//!
//! # Invariants
//! - All together are bounded, and so are those of one container: a rental whose logs are read a lot takes no place of another's.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::boundary::limits::{READERS_EACH_MAX, READERS_MAX};

/// How many there are, by container.
#[derive(Debug, Default)]
pub(super) struct Readers {
    each: Mutex<HashMap<String, usize>>,
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place until it is dropped.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn enter(&self, container_id: &str) -> Result<Place<'_>, &'static str> {
        let mut each = self.lock();
        if each.values().sum::<usize>() >= READERS_MAX {
            return Err("too many logs are being read already");
        }
        let count = each.entry(container_id.to_owned()).or_default();
        if *count >= READERS_EACH_MAX {
            return Err("this container's log is being read too often already");
        }
        *count += 1;
        drop(each);
        Ok(Place {
            readers: self,
            container_id: container_id.to_owned(),
        })
    }
}

/// A reader's place.
#[derive(Debug)]
pub(super) struct Place<'a> {
    readers: &'a Readers,
    container_id: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut each = self.readers.lock();
        if let Some(count) = each.get_mut(&self.container_id) {
            *count -= 1;
            if *count == 0 {
                each.remove(&self.container_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_containers_readers_leave_places_to_others() {
        let readers = Readers::default();
        let mut places = Vec::new();
        for container in 0..READERS_MAX / READERS_EACH_MAX {
            let id = container.to_string();
            for _ in 0..READERS_EACH_MAX {
                places.push(readers.enter(&id).expect("a place"));
            }
            let why = readers.enter(&id).expect_err("it has its share");
            assert!(container > 10 || why.contains("this container"), "{why}");
        }
        let why = readers.enter("another").expect_err("all are taken");
        assert!(why.contains("too many logs"), "{why}");
        places.pop();
        readers.enter("another").expect("a place");
        places.clear();
        assert!(readers.lock().is_empty());
    }
}
