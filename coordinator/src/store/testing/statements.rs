//! Which statements this process has run on SQLite, so that a test can ask for the plan of each.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes a statement's text.
pub(crate) fn note(sql: &str) {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !seen.contains(sql) {
        seen.insert(sql.to_owned());
    }
}

/// All texts so far.
pub(crate) fn seen() -> BTreeSet<String> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
