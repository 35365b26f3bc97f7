//! [`ContainerRuntime`] through the helper: what the agent uses where it may not touch the engine itself.
//!
//! # Invariants
//! - One connection for each call, so there is none to repair: a helper that dies or restarts is [`RuntimeError::Unavailable`] for the
//!   calls that it had, and the next call finds the next helper.
//! - Dropping a call closes its connection, which ends a pull. A connection into a container breaks with the helper that gave it out.
//! - Nothing that the helper says is waited for longer than the helper itself may take.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use serde::de::DeserializeOwned;
use shared::{
    image::Digest,
    link::open::{Entry, LogsQuery},
    time::Timestamp,
    wire::desired::DesiredRental,
};
use tokio::{net::UnixStream, time::timeout};

use super::{
    handover, limits,
    protocol::{self, Call, REPLY_BYTES_MAX, REQUEST_BYTES_MAX, Reply, Request, VERSION},
};
use crate::runtime::{
    Container, ContainerRuntime, Created, DiskUse, EngineFacts, Event, Fetch, OnProgress, Pipe,
    RuntimeError, self_test::SelfTest,
};

/// How much longer than the helper's own limit an answer is waited for.
const MARGIN: Duration = Duration::from_secs(5);
/// What a helper of another mind says.
const UNASKED: &str = "it answers what it wasn't asked";

/// A node's share of the engine behind a helper.
#[derive(Debug, Clone)]
pub struct HelperRuntime {
    socket: PathBuf,
    scope: String,
}

impl HelperRuntime {
    /// Behind the helper that listens at `socket`. `scope` is the label of this node's containers; empty for a machine that isn't enrolled
    /// yet, which gets [`ContainerRuntime::facts`] answered and nothing else. Doesn't connect yet.
    #[must_use]
    pub const fn new(socket: PathBuf, scope: String) -> Self {
        Self { socket, scope }
    }

    fn away(&self, error: impl std::fmt::Display) -> RuntimeError {
        RuntimeError::Unavailable(format!(
            "ramarket-helper at {}: {error}",
            self.socket.display()
        ))
    }

    async fn open(&self, call: Call) -> Result<UnixStream, RuntimeError> {
        let mut stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.away(error))?;
        let request = Request {
            version: VERSION,
            scope: self.scope.clone(),
            call,
        };
        protocol::send(&mut stream, &request, REQUEST_BYTES_MAX)
            .await
            .map_err(|error| self.away(error))?;
        Ok(stream)
    }

    async fn next(&self, stream: &mut UnixStream) -> Result<Reply, RuntimeError> {
        let frame = protocol::receive(stream, REPLY_BYTES_MAX).await;
        frame
            .and_then(|frame| protocol::parse(&frame))
            .map_err(|error| self.away(error))
    }

    /// The result of a call; progress goes to `on_progress`.
    async fn call<T: DeserializeOwned>(
        &self,
        call: Call,
        on_progress: OnProgress<'_>,
    ) -> Result<T, RuntimeError> {
        let within = limits::within(&call) + MARGIN;
        let verb = call.verb();
        let answer = async {
            let mut stream = self.open(call).await?;
            loop {
                match self.next(&mut stream).await? {
                    Reply::Progress(progress) => on_progress(progress),
                    Reply::Done(value) => {
                        return serde_json::from_value(value).map_err(|error| self.away(error));
                    }
                    Reply::Failed(failure) => return Err(failure.into()),
                    Reply::NotServed(why) => return Err(self.away(why)),
                    Reply::Event(_) | Reply::Entry(_) => return Err(self.away(UNASKED)),
                }
            }
        };
        timeout(within, answer).await.unwrap_or_else(|_| {
            Err(self.away(format!("no answer to {verb} within {} s", within.as_secs())))
        })
    }

    /// Events until the helper goes away.
    fn follow(self, stream: UnixStream) -> BoxStream<'static, Result<Event, RuntimeError>> {
        stream::try_unfold((self, stream), |(helper, mut stream)| async move {
            match helper.next(&mut stream).await? {
                Reply::Event(event) => Ok(Some((event, (helper, stream)))),
                Reply::Failed(failure) => Err(failure.into()),
                Reply::NotServed(why) => Err(helper.away(why)),
                Reply::Done(_) => Ok(None),
                Reply::Progress(_) | Reply::Entry(_) => Err(helper.away(UNASKED)),
            }
        })
        .boxed()
    }

    /// Lines until the log ends or the helper goes away.
    fn read(self, stream: UnixStream) -> BoxStream<'static, Result<Entry, RuntimeError>> {
        stream::try_unfold((self, stream), |(helper, mut stream)| async move {
            match helper.next(&mut stream).await? {
                Reply::Entry(entry) => Ok(Some((entry, (helper, stream)))),
                Reply::Failed(failure) => Err(failure.into()),
                Reply::NotServed(why) => Err(RuntimeError::Busy(why)),
                Reply::Done(_) => Ok(None),
                Reply::Progress(_) | Reply::Event(_) => Err(helper.away(UNASKED)),
            }
        })
        .boxed()
    }

    /// Connects for what comes in parts.
    async fn connect(&self, call: Call) -> Result<UnixStream, RuntimeError> {
        let connected = timeout(limits::REQUEST + MARGIN, self.open(call)).await;
        connected.unwrap_or_else(|_| Err(self.away("it doesn't listen")))
    }

    async fn ask<T: DeserializeOwned>(&self, call: Call) -> Result<T, RuntimeError> {
        self.call(call, &|_| {}).await
    }
}

#[async_trait]
impl ContainerRuntime for HelperRuntime {
    async fn facts(&self) -> Result<EngineFacts, RuntimeError> {
        self.ask(Call::Facts {}).await
    }

    async fn self_test(&self) -> Result<SelfTest, RuntimeError> {
        self.ask(Call::SelfTest {}).await
    }

    async fn disk_use(&self) -> Result<Vec<DiskUse>, RuntimeError> {
        self.ask(Call::DiskUse {}).await
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        self.ask(Call::List {}).await
    }

    async fn inspect(&self, container_id: &str) -> Result<Option<Container>, RuntimeError> {
        let container_id = container_id.to_owned();
        self.ask(Call::Inspect { container_id }).await
    }

    async fn pull(
        &self,
        wanted: &Fetch,
        on_progress: OnProgress<'_>,
    ) -> Result<Digest, RuntimeError> {
        let wanted = Box::new(wanted.clone());
        self.call(Call::Pull { wanted }, on_progress).await
    }

    async fn create(&self, rental: &DesiredRental) -> Result<Created, RuntimeError> {
        let rental = Box::new(rental.clone());
        self.ask(Call::Create { rental }).await
    }

    async fn start(&self, container_id: &str) -> Result<(), RuntimeError> {
        let container_id = container_id.to_owned();
        self.ask(Call::Start { container_id }).await
    }

    async fn stop(&self, container_id: &str, grace: Duration) -> Result<(), RuntimeError> {
        self.ask(Call::Stop {
            container_id: container_id.to_owned(),
            grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX),
        })
        .await
    }

    async fn remove(&self, container_id: &str) -> Result<(), RuntimeError> {
        let container_id = container_id.to_owned();
        self.ask(Call::Remove { container_id }).await
    }

    fn events(&self, since: Timestamp) -> BoxStream<'static, Result<Event, RuntimeError>> {
        let helper = self.clone();
        let call = Call::Events {
            since_micros: since.as_micros(),
        };
        stream::once(async move {
            let connected = helper.connect(call).await;
            connected.map(|stream| helper.follow(stream))
        })
        .try_flatten()
        .boxed()
    }

    async fn enter(&self, container_id: &str) -> Result<Pipe, RuntimeError> {
        let call = Call::Enter {
            container_id: container_id.to_owned(),
        };
        let within = limits::within(&call) + MARGIN;
        let entered = async {
            let mut stream = self.open(call).await?;
            match self.next(&mut stream).await? {
                Reply::Done(form) => {
                    let form = serde_json::from_value(form).map_err(|error| self.away(error))?;
                    let given = handover::take(&stream).await;
                    let given = given.and_then(|given| {
                        let given = std::os::unix::net::UnixStream::from(given);
                        given.set_nonblocking(true)?;
                        UnixStream::from_std(given)
                    });
                    let given = given.map_err(|error| self.away(error))?;
                    Ok(Pipe::new(given, form).kept_by(stream))
                }
                Reply::Failed(failure) => Err(failure.into()),
                Reply::NotServed(why) => Err(self.away(why)),
                Reply::Progress(_) | Reply::Event(_) | Reply::Entry(_) => Err(self.away(UNASKED)),
            }
        };
        timeout(within, entered).await.unwrap_or_else(|_| {
            Err(self.away(format!("no answer to enter within {} s", within.as_secs())))
        })
    }

    fn logs(
        &self,
        container_id: &str,
        query: LogsQuery,
    ) -> BoxStream<'static, Result<Entry, RuntimeError>> {
        let helper = self.clone();
        let call = Call::Logs {
            container_id: container_id.to_owned(),
            query: Box::new(query),
        };
        stream::once(async move {
            let connected = helper.connect(call).await;
            connected.map(|stream| helper.read(stream))
        })
        .try_flatten()
        .boxed()
    }
}
