//! The helper's side of the socket: who may speak, one request for each connection, the answer.
//!
//! # Invariants
//! - Connections, followers of events, frames and times are bounded (`limits`); a peer that may not speak is heard not at all.
//! - Whatever comes in a request, the answer is a frame or a closed connection, and the next connection is served.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::StreamExt as _;
use serde::Serialize;
use shared::time::Timestamp;
use tokio::{
    io::AsyncReadExt as _,
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::readers::Readers;
use super::{
    binding::Binding,
    guard::{Engine, Guard, Room},
    limits,
    protocol::{self, Call, Greeting, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reply, Request, VERSION},
};
use crate::runtime::{Fetch, PullProgress, RuntimeError};

/// Makes the engine of a scope.
pub type Engines = Box<dyn Fn(&str) -> anyhow::Result<Arc<dyn Engine>> + Send + Sync>;

/// Who may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peers {
    /// The agent's user, beside root; `None` where there is no such user.
    pub agent_uid: Option<u32>,
}

impl Peers {
    fn admit(self, uid: u32) -> bool {
        uid == 0 || Some(uid) == self.agent_uid
    }
}

/// What serves.
pub struct Helper {
    engines: Engines,
    room: Room,
    peers: Peers,
    binding: Mutex<Binding>,
    guard: Mutex<Option<Arc<Guard>>>,
    followers: Semaphore,
    readers: Readers,
    entered: Semaphore,
    shutdown: CancellationToken,
}

impl fmt::Debug for Helper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helper")
            .field("room", &self.room)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

/// A connection whose request was read.
struct Connection {
    pub(super) reader: OwnedReadHalf,
    pub(super) writer: OwnedWriteHalf,
}

/// The agent closed the connection, or doesn't take what is sent.
struct Gone;

impl Helper {
    /// With the state of earlier runs in `state_dir`.
    ///
    /// # Errors
    /// That can't be read.
    pub fn new(
        engines: Engines,
        room: Room,
        peers: Peers,
        state_dir: &std::path::Path,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            engines,
            room,
            peers,
            binding: Mutex::new(Binding::read(state_dir)?),
            guard: Mutex::default(),
            followers: Semaphore::new(limits::FOLLOWERS_MAX),
            readers: Readers::default(),
            entered: Semaphore::new(limits::ENTERED_MAX),
            shutdown,
        })
    }

    /// Serves until shutdown; connections are tasks of `tracker`.
    pub async fn serve(self: Arc<Self>, listener: UnixListener, tracker: TaskTracker) {
        let connections = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
        loop {
            let accepted = async {
                // never closed
                let permit = Arc::clone(&connections).acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                accepted = accepted => accepted,
                () = self.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let helper = Arc::clone(&self);
                    tracker.spawn(async move {
                        helper.connection(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // such as too many open files: others are about to be closed
                    tracing::warn!(%error, "a connection can't be accepted");
                    tokio::time::sleep(limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, stream: UnixStream) {
        match stream.peer_cred() {
            Ok(peer) if self.peers.admit(peer.uid()) => {}
            Ok(peer) => {
                tracing::warn!(peer.uid = peer.uid(), peer.pid = ?peer.pid(), "somebody else than the agent connected, and isn't heard");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "the kernel doesn't say who connected; it isn't heard");
                return;
            }
        }
        let (mut reader, writer) = stream.into_split();
        let read = protocol::receive(&mut reader, REQUEST_BYTES_MAX);
        let request = match timeout(limits::REQUEST, read).await {
            Ok(Ok(frame)) => understand(&frame),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection brought no request");
                return;
            }
            Err(_) => return,
        };
        let mut connection = Connection { reader, writer };
        let served = match request.and_then(|request| Ok((self.guard_of(&request)?, request.call)))
        {
            Ok((guard, call)) => Box::pin(self.answer(&guard, call, &mut connection)).await,
            Err(why) => {
                tracing::warn!(reason = why, "a request isn't served");
                connection.send(&Reply::NotServed(why)).await
            }
        };
        if served.is_err() {
            tracing::debug!("the agent didn't wait for its answer");
        }
    }

    /// The checks of the request's scope. What an engine is may be asked without one.
    fn guard_of(&self, request: &Request) -> Result<Arc<Guard>, String> {
        let make = |scope: &str| {
            let engine = (self.engines)(scope).map_err(|error| format!("{error:#}"))?;
            Ok::<_, String>(Arc::new(Guard::new(engine, self.room)))
        };
        let harmless = matches!(request.call, Call::Facts {} | Call::SelfTest {});
        if request.scope.is_empty() && harmless {
            return make("");
        }
        let mut binding = self.binding.lock().unwrap_or_else(PoisonError::into_inner);
        binding.admit(&request.scope)?;
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        match &*guard {
            Some(guard) => Ok(Arc::clone(guard)),
            None => Ok(Arc::clone(guard.insert(make(&request.scope)?))),
        }
    }

    async fn answer(
        &self,
        guard: &Guard,
        call: Call,
        connection: &mut Connection,
    ) -> Result<(), Gone> {
        let verb = call.verb();
        let within = limits::within(&call);
        let result = match call {
            Call::Events { since_micros } => {
                let since = Timestamp::from_micros(since_micros);
                return self.follow(guard, since, connection).await;
            }
            Call::Logs {
                container_id,
                query,
            } => return self.logs(guard, (&container_id, *query), connection).await,
            Call::Enter { container_id } => {
                let entering = timeout(within, guard.enter(&container_id));
                return self.enter(entering, connection).await;
            }
            Call::Pull { wanted } => {
                let pull = self.pull(guard, &wanted, connection);
                timeout(within, pull).await.ok().transpose()?
            }
            call => timeout(within, perform(guard, call)).await.ok(),
        };
        let late = || {
            let why = format!("{verb} took longer than {} s", within.as_secs());
            Err(RuntimeError::Unavailable(why))
        };
        let reply = match result.unwrap_or_else(late) {
            Ok(value) => Reply::Done(value),
            Err(error) => {
                tracing::debug!(verb, %error, "a call failed");
                Reply::Failed(error.into())
            }
        };
        connection.send(&reply).await
    }

    /// Fetches an image, with progress as fast as it is taken.
    async fn pull(
        &self,
        guard: &Guard,
        wanted: &Fetch,
        connection: &mut Connection,
    ) -> Result<Result<serde_json::Value, RuntimeError>, Gone> {
        let (told, mut progress) = watch::channel(PullProgress::default());
        let tell = |done: PullProgress| {
            told.send_replace(done);
        };
        let mut pull = std::pin::pin!(guard.pull(wanted, &tell));
        loop {
            tokio::select! {
                done = &mut pull => return Ok(done.and_then(value)),
                _ = progress.changed() => {
                    let now = *progress.borrow_and_update();
                    connection.send(&Reply::Progress(now)).await?;
                }
                () = connection.closed() => return Err(Gone),
                () = self.shutdown.cancelled() => {
                    return Ok(Err(RuntimeError::Unavailable("the helper is ending".to_owned())));
                }
            }
        }
    }

    async fn follow(
        &self,
        guard: &Guard,
        since: Timestamp,
        connection: &mut Connection,
    ) -> Result<(), Gone> {
        let Ok(_permit) = self.followers.try_acquire() else {
            let why = "too many connections follow events already".to_owned();
            return connection.send(&Reply::NotServed(why)).await;
        };
        let mut events = guard.events(since);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = connection.closed() => return Err(Gone),
                () = self.shutdown.cancelled() => return Ok(()),
            };
            match event {
                Some(Ok(event)) => connection.send(&Reply::Event(event)).await?,
                Some(Err(error)) => return connection.send(&Reply::Failed(error.into())).await,
                None => return connection.send(&Reply::Done(serde_json::Value::Null)).await,
            }
        }
    }
}

/// The request in a frame.
fn understand(frame: &[u8]) -> Result<Request, String> {
    let greeting: Greeting =
        protocol::parse(frame).map_err(|error| format!("that is no request: {error}"))?;
    if greeting.version != VERSION {
        return Err(format!(
            "the agent speaks version {} and the helper version {VERSION}; restart both after an upgrade",
            greeting.version
        ));
    }
    protocol::parse(frame).map_err(|error| format!("the request isn't understood: {error}"))
}

/// The calls that have one answer.
async fn perform(guard: &Guard, call: Call) -> Result<serde_json::Value, RuntimeError> {
    match call {
        Call::Facts {} => value(guard.engine().facts().await?),
        Call::SelfTest {} => value(guard.engine().self_test().await?),
        Call::DiskUse {} => value(guard.engine().disk_use().await?),
        Call::List {} => value(guard.list().await?),
        Call::Inspect { container_id } => value(guard.inspect(&container_id).await?),
        Call::Create { rental } => value(guard.create(&rental).await?),
        Call::Start { container_id } => value(guard.start(&container_id).await?),
        Call::Stop {
            container_id,
            grace_ms,
        } => {
            let grace = std::time::Duration::from_millis(grace_ms);
            value(guard.stop(&container_id, grace).await?)
        }
        Call::Remove { container_id } => value(guard.remove(&container_id).await?),
        Call::Pull { .. } | Call::Events { .. } | Call::Logs { .. } | Call::Enter { .. } => Err(
            RuntimeError::Unavailable("this call is answered in parts".to_owned()),
        ),
    }
}

fn value(result: impl Serialize) -> Result<serde_json::Value, RuntimeError> {
    serde_json::to_value(result)
        .map_err(|error| RuntimeError::Unavailable(format!("the answer can't be sent: {error}")))
}

impl Connection {
    async fn send(&mut self, reply: &Reply) -> Result<(), Gone> {
        let sent = protocol::send(&mut self.writer, reply, REPLY_BYTES_MAX);
        match timeout(limits::REPLY, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Returns when the agent closes the connection, or sends what nobody asked for.
    async fn closed(&mut self) {
        let mut byte = [0; 1];
        // whatever it is, end or error or a byte, the call is over
        drop(self.reader.read(&mut byte).await);
    }
}

mod carry;
mod readers;

#[cfg(test)]
mod tests;
