//! Carries out what providers plan for their nodes: ends what still runs at a drain's deadline, and tells of maintenance.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use shared::id::NodeId;

use super::Task;
use crate::{
    app::App,
    domain::rentals::{timers, upkeep},
    error::Result,
};

/// The task's name.
pub const NAME: &str = "upkeep";
/// How often it runs, milliseconds.
pub const PERIOD_MS: u32 = 1_000;
/// Nodes that one look finds at most.
const BATCH: i64 = 200;

/// The task.
pub struct Upkeep(pub Arc<App>);

impl Upkeep {
    /// Ends what runs on nodes whose deadline has come; how many rentals, and how many nodes had to be left.
    async fn vacate(&self) -> Result<(usize, usize)> {
        let app = &self.0;
        let (mut stopped, mut failed, mut after) = (0, 0, timers::beginning());
        loop {
            let (now, from) = (app.clock.now(), after.clone());
            let due = app
                .db
                .read("node.drains", move |tx| {
                    upkeep::drains_due(tx, now, (from.0, &from.1), BATCH)
                })
                .await?;
            let Some((at, last)) = due.last() else { break };
            after = (*at, last.to_string());
            for (_, node) in due {
                let ctx = app.task_context(NAME);
                let done = app
                    .db
                    .write("node.vacate", move |tx| upkeep::vacate(tx, &ctx, node));
                match done.await {
                    Ok(ended) => stopped += ended,
                    Err(error) => {
                        failed += 1;
                        left(node, &error);
                    }
                }
            }
        }
        Ok((stopped, failed))
    }

    /// Tells whoever rents a node of its maintenance; of how many nodes.
    async fn tell(&self) -> Result<usize> {
        let app = &self.0;
        let (mut told, mut after) = (0, String::new());
        loop {
            let from = after.clone();
            let nodes = app
                .db
                .read("node.maintenance", move |tx| {
                    upkeep::maintenance_to_tell(tx, &from, BATCH)
                })
                .await?;
            let Some(last) = nodes.last() else { break };
            after = last.to_string();
            for node in nodes {
                let ctx = app.task_context(NAME);
                let done = app.db.write("node.maintenance_told", move |tx| {
                    upkeep::tell_maintenance(tx, &ctx, node)
                });
                match done.await {
                    Ok(news) => told += usize::from(news),
                    Err(error) => left(node, &error),
                }
            }
        }
        Ok(told)
    }
}

fn left(node: NodeId, error: &crate::error::Error) {
    tracing::error!(task.name = NAME, node.id = %node, %error, "node had to be left for the next turn");
}

#[async_trait]
impl Task for Upkeep {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn activate(&mut self) -> Result<Value> {
        let (stopped, failed) = self.vacate().await?;
        let told = self.tell().await?;
        Ok(json!({ "stopped": stopped, "failed": failed, "maintenance_told": told }))
    }
}
