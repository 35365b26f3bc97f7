//! The agent's side of the operator's socket.
//!
//! # Invariants
//! - Root and the agent's own user are heard; anybody else's connection is closed unread, whatever the file's mode lets through.
//! - Connections, lines and waits are bounded; a connection that asks nothing for a minute is closed.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use shared::{clock::Clock, wire::operator::Wish};
use tokio::{
    io::BufReader,
    net::{UnixListener, UnixStream},
    sync::{Notify, Semaphore, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    orders::Orders,
    protocol::{self, ANSWER_BYTES_MAX, Answer, QUESTION_BYTES_MAX, Question, WAIT_MS_MAX},
};
use crate::report::{ServerClock, Teller};

/// Connections at once.
const CONNECTIONS_MAX: usize = 16;
/// Between two questions on one connection.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// After a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// The longest drain that may be asked for, milliseconds.
const DRAIN_MS_MAX: i64 = 30 * 24 * 3_600_000;

/// What answers.
pub struct Desk {
    /// Knows how the agent is doing.
    pub teller: Teller,
    /// Keeps orders.
    pub orders: Arc<Orders>,
    /// This machine's clocks.
    pub clock: Arc<dyn Clock>,
    /// The coordinator's clock.
    pub server_clock: watch::Receiver<ServerClock>,
    /// Makes the agent beat at once.
    pub nudge: Arc<Notify>,
    /// The user whom the agent runs as.
    pub own_uid: u32,
}

/// Listens at `path` until `shutdown`; who can't is told so, and the agent goes on without.
pub fn start(desk: Desk, path: &Path, shutdown: &CancellationToken, tracker: &TaskTracker) {
    match listen(path) {
        Ok(listener) => {
            tracker.spawn(Arc::new(desk).serve(listener, shutdown.clone(), tracker.clone()));
        }
        Err(error) => tracing::warn!(
            error = format!("{error:#}"),
            "the operator's socket can't be made; status is read from its file, and orders aren't taken"
        ),
    }
}

/// The caller holds the folder's lock: a socket that is there was left by an earlier run.
fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(found) => {
            anyhow::ensure!(found.file_type().is_socket(), "{shown} is no socket");
            std::fs::remove_file(path).with_context(|| format!("{shown} can't be replaced"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{shown} can't be looked at")),
    }
    let listener = UnixListener::bind(path).with_context(|| format!("{shown} can't be made"))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))
        .with_context(|| format!("the mode of {shown} can't be set"))?;
    Ok(listener)
}

/// Whether a user may ask: root, or whom the agent runs as.
const fn may_ask(uid: u32, own_uid: u32) -> bool {
    uid == 0 || uid == own_uid
}

impl Desk {
    async fn serve(
        self: Arc<Self>,
        listener: UnixListener,
        shutdown: CancellationToken,
        tracker: TaskTracker,
    ) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = async {
                // never closed
                let permit = Arc::clone(&connections).acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (desk, ending) = (Arc::clone(&self), shutdown.clone());
                    tracker.spawn(async move {
                        tokio::select! {
                            () = desk.connection(stream) => {}
                            () = ending.cancelled() => {}
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "an operator's connection can't be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, stream: UnixStream) {
        match stream.peer_cred() {
            Ok(peer) if may_ask(peer.uid(), self.own_uid) => {}
            Ok(peer) => {
                tracing::warn!(peer.uid = peer.uid(), peer.pid = ?peer.pid(), "somebody else than root or the agent's user connected, and isn't heard");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel doesn't say who connected; it isn't heard");
                return;
            }
        }
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        loop {
            let question = protocol::receive(&mut reader, QUESTION_BYTES_MAX);
            let answer = match timeout(IDLE_MAX, question).await {
                Ok(Ok(Some(question))) => self.answer(question).await,
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Answer::Refused {
                    reason: format!("this isn't a question of this version: {error}"),
                },
                _ => return,
            };
            let over = matches!(answer, Answer::Refused { .. });
            let sent = protocol::send(&mut writer, &answer, ANSWER_BYTES_MAX).await;
            if sent.is_err() || over {
                return;
            }
        }
    }

    async fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Status {} => match self.teller.status().await {
                Ok(status) => Answer::Status(Box::new(status)),
                Err(error) => refused(&error),
            },
            Question::Order { wish } => self.take(wish).await,
            Question::Drain { within_ms } => {
                if within_ms.is_some_and(|ms| !(0..=DRAIN_MS_MAX).contains(&ms)) {
                    return refused(&anyhow::anyhow!("a drain lasts at most 30 days"));
                }
                let server = *self.server_clock.borrow();
                let now = server.now(self.clock.as_ref());
                let deadline = within_ms.map(|ms| now.plus_ms(ms));
                self.take(Wish::Drain { deadline }).await
            }
            Question::Outcome { number, wait_ms } => Answer::Outcome {
                outcome: self.outcome(number, wait_ms).await,
            },
        }
    }

    async fn take(&self, wish: Wish) -> Answer {
        let (orders, now) = (Arc::clone(&self.orders), self.clock.now());
        let given = tokio::task::spawn_blocking(move || orders.give(wish, now)).await;
        match given {
            Ok(Ok(number)) => {
                tracing::info!(order.number = number, "an order for the market is kept");
                self.nudge.notify_one();
                Answer::Taken { number }
            }
            Ok(Err(error)) => refused(&error),
            Err(error) => refused(&error.into()),
        }
    }

    async fn outcome(&self, number: i64, wait_ms: u64) -> Option<shared::wire::operator::Outcome> {
        let wait = Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
        let mut standing = self.orders.standing();
        let answered = |standing: &Option<shared::wire::operator::Standing>| {
            standing
                .as_ref()
                .is_some_and(|standing| standing.orders_seen >= number)
        };
        // in time or not: what is known then is told
        timeout(wait, standing.wait_for(answered)).await.ok();
        self.orders.outcome(number)
    }
}

fn refused(error: &anyhow::Error) -> Answer {
    Answer::Refused {
        reason: format!("{error:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_agents_user_may_ask() {
        assert!(may_ask(0, 990) && may_ask(990, 990));
        for stranger in [1, 989, 1_000, 65_534] {
            assert!(!may_ask(stranger, 990));
        }
    }
}
