//! Errors of PostgreSQL, by SQLSTATE, in the words of the store.

use std::{error::Error as StdError, io};

use tokio_postgres::Error;

use crate::store::StoreError;

/// Whether the connection is gone: what the server did last isn't known.
pub(super) fn is_lost(error: &Error) -> bool {
    // the server says goodbye with class 57 (shutdown, crash) or 08
    let goodbye = |code: &str| code.starts_with("57P") || code.starts_with("08");
    match error.code() {
        Some(code) => goodbye(code.code()),
        None => error.is_closed() || error.source().is_some_and(<dyn StdError>::is::<io::Error>),
    }
}

/// Translates an error that came before a commit was asked for.
pub(super) fn translate(error: &Error) -> StoreError {
    let Some(said) = error.as_db_error() else {
        let cause = error
            .source()
            .map_or_else(String::new, |it| format!(": {it}"));
        let text = format!("{error}{cause}");
        return if is_lost(error) {
            StoreError::Busy(text)
        } else {
            StoreError::failed(text)
        };
    };
    let code = said.code().code();
    // not `detail`: it repeats values
    let text = format!("{} ({code})", said.message());
    match code {
        "23505" => StoreError::Unique(said.constraint().map_or(text, str::to_owned)),
        // serialization failure, deadlock, lock not available, too many connections
        "40001" | "40P01" | "55P03" | "53300" => StoreError::Busy(text),
        "57014" | "25P03" => StoreError::failed("the transaction took too long and was stopped"),
        // raised by a trigger
        "P0001" => StoreError::Constraint(text),
        // I/O error, corrupt data, corrupt index
        "58030" | "XX001" | "XX002" => StoreError::fatal(text),
        _ if code.starts_with("23") => StoreError::Constraint(text),
        _ if is_lost(error) => StoreError::Busy(text),
        _ => StoreError::failed(text),
    }
}

/// Translates the answer to COMMIT: only a clear "no" is one.
pub(super) fn translate_commit(error: &Error) -> StoreError {
    let refused = error.code().is_some_and(|code| {
        let code = code.code();
        // 40003: statement completion unknown
        code.starts_with("23") || (code.starts_with("40") && code != "40003")
    });
    match translate(error) {
        clear if refused => clear,
        unclear => StoreError::CommitUnknown(unclear.to_string()),
    }
}
