//! Moves the leases of running rentals on, and extends from balances what asks for it.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::id::NodeId;

use super::{Task, each::each_rental};
use crate::{
    app::App,
    context::OpCtx,
    domain::rentals::timers::{self, Done},
    error::Result,
    store::Tx,
};

/// The task's name.
pub const NAME: &str = "leases";

/// The task.
pub struct Leases(pub Arc<App>);

impl Leases {
    /// Whether a node's beats arrive here: nothing is extended on one that may be gone.
    fn answers(&self, node: NodeId) -> bool {
        let agents = &self.0.agents;
        let (silent_ms, heard) = agents.presence.silence(node, self.0.clock.now());
        heard && silent_ms < agents.rhythm.patience.suspect_after_ms
    }
}

#[async_trait]
impl Task for Leases {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let app = &self.0;
        let rules = app.purchases.rules;
        let (mut done, mut failed, mut after) = (Done::default(), 0, timers::beginning());
        loop {
            let (ctx, from) = (app.task_context(NAME), after.clone());
            let page = app
                .db
                .read("rental.leases", move |tx| {
                    timers::leases_ending(tx, &ctx, &rules, &from)
                })
                .await?;
            let Some(last) = page.last() else { break };
            after = (last.lease_until, last.id.to_string());
            let answering = page.iter().filter(|rental| self.answers(rental.node_id));
            let ids: Vec<_> = answering.map(|rental| rental.id).collect();
            let desk = app.purchases.desk();
            let step =
                move |tx: &mut dyn Tx, ctx: &OpCtx, id| timers::move_lease(tx, ctx, &desk, id);
            let (moved, bad) = each_rental(app, NAME, ids, step).await;
            moved.into_iter().for_each(|one| done += one);
            failed += bad;
        }
        Ok(json!({ "leases": done.leases, "extended": done.extended, "failed": failed }))
    }
}
