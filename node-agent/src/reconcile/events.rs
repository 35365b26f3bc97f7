//! Listens to the engine's events and tells the reconciler when to look, and at which container.
//!
//! # Invariants
//! - Nothing is missed: each connection asks for events since just before it was made, and the reconciler then lists everything.
//! - An event carries no state, only "look": what is seen comes from one place.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use shared::clock::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Backoff, Message};
use crate::runtime::ContainerRuntime;

/// How far back a new connection asks, for the engine's clock and ours to differ in rounding.
const OVERLAP_MS: i64 = 1_000;
/// A connection that held this long counts as good.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// Runs until shutdown.
pub(super) async fn listen(
    runtime: Arc<dyn ContainerRuntime>,
    clock: Arc<dyn Clock>,
    messages: mpsc::Sender<Message>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::default();
    let forward = async {
        loop {
            let since = clock.now().plus_ms(-OVERLAP_MS);
            let connected = tokio::time::Instant::now();
            let mut events = runtime.events(since);
            if messages.send(Message::Resync).await.is_err() {
                return;
            }
            while let Some(event) = events.next().await {
                let message = match event {
                    Ok(event) => Message::Touched(event),
                    Err(error) => {
                        tracing::debug!(%error, "the engine's events broke off");
                        break;
                    }
                };
                if messages.send(message).await.is_err() {
                    return;
                }
            }
            if connected.elapsed() >= GOOD_AFTER {
                backoff = Backoff::default();
            }
            tokio::time::sleep(backoff.next()).await;
        }
    };
    tokio::select! {
        () = forward => {}
        () = shutdown.cancelled() => {}
    }
}
