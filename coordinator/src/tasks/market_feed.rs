//! Follows the event stream of this process: keeps the market's index fresh, nudges agents and wakes timers, also for what other
//! coordinators did.

use std::{collections::BTreeSet, sync::Arc};

use shared::id::NodeId;
use tokio::sync::broadcast::error::RecvError;

use super::{leases, spending};
use crate::{
    app::App,
    domain::{nodes, offers, payments::funds, rentals},
    error::Result,
    store::Tx,
};

const PAGE: i64 = 500;
/// What changes what a node is to do. Of other news it is the source, or they are none of its business: a nudge would only make it
/// beat while it starts a container.
const FOR_NODES: [&str; 3] = ["rental.paid", "rental.stopping", "rental.ended"];
/// What changes its leases alone, which have no generation.
const EXTENDED: &str = "rental.extended";

/// Loads the whole index.
///
/// # Errors
/// The database's.
pub async fn load(app: &App) -> Result<()> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let cursor = after.clone();
        let page = app
            .db
            .read("market.load", move |tx| offers::listings(tx, &cursor, PAGE))
            .await?;
        let Some(last) = page.last() else { break };
        after = last.offer.id.to_string();
        all.extend(page);
    }
    app.market.replace(all);
    count_running(app).await
}

/// Follows the stream until shutdown.
///
/// # Errors
/// The database's: the process can't serve a stale market.
pub async fn follow(app: Arc<App>) -> anyhow::Result<()> {
    let mut events = app.events.subscribe();
    load(&app).await?;
    while let Some(event) = app.shutdown.run_until_cancelled(events.recv()).await {
        let (mut nodes, mut to_tell) = (BTreeSet::new(), BTreeSet::new());
        let mut lagged = false;
        let mut next = Some(event);
        // take what is there at once: many events of one node are one look
        while let Some(event) = next {
            match event {
                Ok(event) => {
                    if event.kind == funds::CREDITED {
                        // what stops for want of funds may go on
                        app.tasks.poke(leases::NAME);
                        app.tasks.poke(spending::NAME);
                    }
                    if let Some(node) = event.node {
                        nodes.insert(node);
                        if event.kind == EXTENDED {
                            app.agents.nudger.nudge(node);
                        } else if FOR_NODES.contains(&event.kind.as_str()) {
                            to_tell.insert(node);
                        }
                    }
                    next = events.try_recv().ok().map(Ok);
                }
                Err(RecvError::Lagged(_)) => {
                    lagged = true;
                    next = events.try_recv().ok().map(Ok);
                }
                Err(RecvError::Closed) => return Ok(()),
            }
        }
        for node in to_tell {
            tell(&app, node).await?;
        }
        if lagged {
            load(&app).await?;
        } else {
            refresh(&app, nodes).await?;
        }
    }
    Ok(())
}

/// Nudges a node if what it is to do is newer than what its link was nudged for.
async fn tell(app: &App, node: NodeId) -> Result<()> {
    let find = move |tx: &mut dyn Tx| nodes::get(tx, node);
    let generation = app.db.read("market.generation", find).await?.generation;
    app.agents.nudger.tell(node, generation);
    Ok(())
}

async fn refresh(app: &App, nodes: BTreeSet<NodeId>) -> Result<()> {
    for node in nodes {
        let listings = app
            .db
            .read("market.node", move |tx| offers::listings_of_node(tx, node))
            .await?;
        app.market.replace_node(node, listings);
    }
    count_running(app).await
}

async fn count_running(app: &App) -> Result<()> {
    let running = app.db.read("market.running", rentals::count_active).await?;
    app.market.note_running(running);
    Ok(())
}
