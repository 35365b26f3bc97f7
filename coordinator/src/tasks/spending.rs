//! Tells consumers in time that a rental runs out of paid time or of the balance that extends it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{Task, each::each_rental};
use crate::{
    app::App,
    context::OpCtx,
    domain::rentals::{
        alerts::{self, Told},
        timers,
    },
    error::Result,
    store::Tx,
};

/// The task's name.
pub const NAME: &str = "spending";

/// The task.
pub struct Spending(pub Arc<App>);

#[async_trait]
impl Task for Spending {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = &self.0;
        let (desk, now) = (app.purchases.desk(), app.clock.now());
        let (mut told, mut failed, mut after) = (Told::default(), 0, timers::beginning());
        loop {
            let from = after.clone();
            let look = move |tx: &mut dyn Tx| alerts::due(tx, now, &from, timers::BATCH);
            let page = app.db.read("rental.alerts", look).await?;
            let Some(last) = page.last() else { break };
            after = (last.look_at, last.rental.to_string());
            let ids: Vec<_> = page.iter().map(|watch| watch.rental).collect();
            let (desk, postbox) = (desk.clone(), Arc::clone(&app.postbox));
            let step =
                move |tx: &mut dyn Tx, ctx: &OpCtx, id| alerts::look(tx, ctx, &desk, &postbox, id);
            let (good, bad) = each_rental(app, NAME, ids, step).await;
            for one in good {
                told.time_left = told.time_left.saturating_add(one.time_left);
                told.out_of_funds = told.out_of_funds.saturating_add(one.out_of_funds);
            }
            failed += bad;
        }
        Ok(
            json!({ "time_left": told.time_left, "out_of_funds": told.out_of_funds, "failed": failed }),
        )
    }
}
