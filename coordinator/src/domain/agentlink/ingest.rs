//! The one task that takes in beats: what is queued is taken together, so that the database commits it together.
//!
//! # Invariants
//! - The queue is bounded: what doesn't fit is refused with 503, and the agent beats again.
//! - A beat is answered after its commit. One beat's failure is its own.
//! - This file is what a packed log and batch verification replace.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use shared::wire::heartbeat::Reply;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{AgentLink, beat::Admitted};
use crate::error::{Error, Kind, Result};

/// Beats that may wait.
const QUEUE_MAX: usize = 4_096;
/// Beats that are taken together.
const BATCH_MAX: usize = 256;

#[derive(Debug)]
struct Job {
    admitted: Arc<Admitted>,
    answer: oneshot::Sender<Result<(Reply, bool)>>,
}

/// Where beats wait.
#[derive(Debug)]
pub struct Queue {
    sender: mpsc::Sender<Job>,
    receiver: Mutex<Option<mpsc::Receiver<Job>>>,
}

impl Default for Queue {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl AgentLink {
    /// Hands an admitted beat to the ingest task and waits for its commit; returns the reply and whether a rental ended by it.
    ///
    /// # Errors
    /// 503 if too many wait; as [`AgentLink::apply`].
    pub async fn ingest(&self, admitted: Admitted) -> Result<(Reply, bool)> {
        let (answer, reply) = oneshot::channel();
        let job = Job {
            admitted: Arc::new(admitted),
            answer,
        };
        self.queue.sender.try_send(job).map_err(|_| busy())?;
        reply.await.map_err(|_| busy())?
    }

    /// Runs the ingest task until shutdown.
    ///
    /// # Errors
    /// It runs already.
    pub async fn run_ingest(&self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let receiver = self
            .queue
            .receiver
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut receiver =
            receiver.ok_or_else(|| anyhow::anyhow!("the ingest task runs already"))?;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                taken = receiver.recv_many(&mut batch, BATCH_MAX) => {
                    if taken == 0 {
                        return Ok(());
                    }
                }
            }
            metrics::histogram!("ramarket_beats_per_batch")
                .record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
            join_all(batch.drain(..).map(|job| self.answer(job))).await;
        }
    }

    async fn answer(&self, job: Job) {
        let outcome = self.apply(job.admitted).await;
        if job.answer.send(outcome).is_err() {
            tracing::debug!("an agent hung up before its reply");
        }
    }
}

fn busy() -> Error {
    Error::new(
        Kind::Unavailable { retry_after_s: 1 },
        "busy",
        "too many beats wait: beat again in a moment",
    )
}
