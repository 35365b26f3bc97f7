//! Which statements this process has run on each SQLite file, so that a test can ask for the plans of its own.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
};

static SEEN: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());

/// Notes a statement's text.
pub(crate) fn note(file: Option<&str>, sql: &str) {
    let run = (file.unwrap_or_default().to_owned(), sql.to_owned());
    SEEN.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(run);
}

/// All texts so far that were run on a file in `folder`.
pub(crate) fn seen_in(folder: &Path) -> BTreeSet<String> {
    let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let own = seen
        .iter()
        .filter(|(file, _)| Path::new(file).starts_with(folder));
    own.map(|(_, sql)| sql.clone()).collect()
}
