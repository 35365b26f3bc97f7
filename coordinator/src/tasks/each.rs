//! One write per rental: what one of them comes to is its own affair.
//!
//! # Invariants
//! - A rental whose write fails is logged and counted; the others have their turn all the same.
//! - The writes of a page are asked for together, so that the database commits them together.

use futures_util::future::join_all;
use shared::id::RentalId;

use crate::{app::App, context::OpCtx, error::Result, store::Tx};

/// Runs `step` for each rental in a transaction of its own; returns what the good ones came to, and how many failed.
pub(super) async fn each_rental<T, F>(
    app: &App,
    name: &'static str,
    ids: impl IntoIterator<Item = RentalId>,
    step: F,
) -> (Vec<T>, usize)
where
    T: Send + 'static,
    F: Fn(&mut dyn Tx, &OpCtx, RentalId) -> Result<T> + Clone + Send + Sync + 'static,
{
    let work = ids.into_iter().map(|id| {
        let (ctx, step) = (app.task_context(name), step.clone());
        let one = app.db.write(name, move |tx| step(tx, &ctx, id));
        async move {
            one.await.inspect_err(
                |error| tracing::error!(task.name = name, rental.id = %id, %error, "rental had to be left for the next turn"),
            )
        }
    });
    let outcomes = join_all(work).await;
    let asked = outcomes.len();
    let good: Vec<T> = outcomes.into_iter().flatten().collect();
    let failed = asked - good.len();
    (good, failed)
}
