//! A transaction body without its types: what the drivers run.
//!
//! # Invariants
//! - A panic of a body becomes an error; it never takes the driver's thread with it.
//! - After the first error of the database a body can run no further statement, on either driver, and can't
//!   end well: PostgreSQL has aborted the transaction then, and its COMMIT would quietly be a ROLLBACK.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{Row, StoreError, Tx, Value};
use crate::error::{Error, Result};

/// What a body returned, its type erased.
pub(super) type Outcome = Result<Box<dyn Any + Send>>;

type Erased = dyn Fn(&mut dyn Tx) -> Outcome + Send + Sync;

/// A transaction body and its name.
#[derive(Clone)]
pub(super) struct Body {
    /// Shows in metrics and logs.
    pub(super) name: &'static str,
    run: Arc<Erased>,
}

/// One run of a body.
pub(super) struct Attempt {
    /// What the body returned.
    pub(super) outcome: Outcome,
    /// What the database said first, whatever the body made of it.
    pub(super) failure: Option<StoreError>,
}

impl Body {
    /// Erases the types of `body`.
    pub(super) fn new<T, F>(name: &'static str, body: F) -> Self
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + Sync + 'static,
    {
        let run = move |tx: &mut dyn Tx| -> Outcome { Ok(Box::new(body(tx)?)) };
        Self {
            name,
            run: Arc::new(run),
        }
    }

    /// Runs it once on `tx`.
    pub(super) fn run(&self, tx: &mut dyn Tx) -> Attempt {
        let mut watched = Watched { tx, failure: None };
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.run)(&mut watched)));
        let failure = watched.failure;
        let outcome = match (outcome, &failure) {
            (Ok(Ok(_)), Some(error)) => Err(Error::internal(format!(
                "body {} returned Ok though the database had said: {error}",
                self.name
            ))),
            (Ok(outcome), _) => outcome,
            (Err(panic), _) => Err(Error::internal(format!(
                "body {} panicked: {}",
                self.name,
                panic_text(&*panic)
            ))),
        };
        Attempt { outcome, failure }
    }
}

/// Gives a body's value its type back.
pub(super) fn unpack<T: 'static>(value: Box<dyn Any + Send>) -> Result<T> {
    value
        .downcast()
        .map(|value| *value)
        .map_err(|_| Error::internal("a body's result has another type than its caller's"))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

struct Watched<'a> {
    tx: &'a mut dyn Tx,
    failure: Option<StoreError>,
}

impl Watched<'_> {
    fn watch<T>(
        &mut self,
        call: impl FnOnce(&mut dyn Tx) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Some(error) = &self.failure {
            return Err(StoreError::failed(format!(
                "the transaction has failed already: {error}"
            )));
        }
        call(self.tx).inspect_err(|error| self.failure = Some(error.clone()))
    }
}

impl Tx for Watched<'_> {
    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        self.watch(|tx| {
            refuse_nul(params)?;
            tx.query(sql, params)
        })
    }

    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, StoreError> {
        self.watch(|tx| {
            refuse_nul(params)?;
            tx.execute(sql, params)
        })
    }
}

/// PostgreSQL can't keep this character; what only SQLite could keep is refused on both.
fn refuse_nul(params: &[Value]) -> Result<(), StoreError> {
    let nul = |value: &Value| matches!(value, Value::Text(text) if text.contains('\0'));
    if params.iter().any(nul) {
        return Err(StoreError::failed("a text contains the character NUL"));
    }
    Ok(())
}
