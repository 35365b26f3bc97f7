//! Online copies of a SQLite database.
//!
//! # Invariants
//! - The copy is one committed state, also while writes go on: all pages are copied in one read transaction.
//! - `target` is a whole, checked and durable copy, or what it was before.

#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{
    connection::{create_private, open_reader, sync_folder},
    tx::translate,
};
use crate::store::StoreError;

/// Copies the database at `source` to `target`, over what was there.
pub(super) fn run(source: &Path, target: &Path) -> Result<(), StoreError> {
    let unfinished = unfinished_name(source, target)?;
    remove_if_there(&unfinished)?;
    create_private(&unfinished)?;
    let done = copy(source, &unfinished).and_then(|()| publish(&unfinished, target));
    if done.is_err() {
        remove_if_there(&unfinished)?;
    }
    done
}

fn unfinished_name(source: &Path, target: &Path) -> Result<PathBuf, StoreError> {
    if target.is_dir() {
        return Err(StoreError::failed(format!(
            "{} is a folder: name the file to write",
            target.display()
        )));
    }
    let same = fs::canonicalize(target).is_ok_and(|it| fs::canonicalize(source).ok() == Some(it));
    let name = target.file_name().filter(|_| !same).ok_or_else(|| {
        StoreError::failed(format!(
            "can't back up to {}: name a new file",
            target.display()
        ))
    })?;
    let mut unfinished = std::ffi::OsString::from(".");
    unfinished.push(name);
    unfinished.push(format!(".{}.unfinished", std::process::id()));
    Ok(target.with_file_name(unfinished))
}

fn copy(source: &Path, unfinished: &Path) -> Result<(), StoreError> {
    let source = open_reader(source)?;
    let mut copy = Connection::open(unfinished).map_err(|e| translate(&e))?;
    // all pages in one step: with several, each write between two of them would start the copy anew
    let step = Backup::new(&source, &mut copy).and_then(|backup| backup.step(-1));
    match step.map_err(|e| translate(&e))? {
        StepResult::Done => {}
        _ => return Err(StoreError::Busy("the copy couldn't be finished".to_owned())),
    }
    let verdict: String = copy
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|e| translate(&e))?;
    if verdict != "ok" {
        return Err(StoreError::failed(format!("the copy is broken: {verdict}")));
    }
    // one file, without a log beside it
    copy.pragma_update_and_check(None, "journal_mode", "delete", |_| Ok(()))
        .map_err(|e| translate(&e))?;
    copy.close().map_err(|(_, e)| translate(&e))
}

fn publish(unfinished: &Path, target: &Path) -> Result<(), StoreError> {
    let published = fs::File::open(unfinished)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(unfinished, target))
        .and_then(|()| sync_folder(target));
    published.map_err(|e| StoreError::failed(format!("can't write {}: {e}", target.display())))
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::failed(
            format!("can't remove {}: {error}", path.display()),
        )),
        _ => Ok(()),
    }
}
