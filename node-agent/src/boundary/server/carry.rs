//! The calls that go on: what a container writes, and the connection to what serves within one.
//!
//! # Invariants
//! - How many there are at once is bounded (`limits`), and so is what is in hand of each; a slow agent slows them down.
//! - They end with their connection, and at the helper's own end.

use std::future::Future;

use futures_util::StreamExt as _;
use shared::link::open::LogsQuery;
use tokio::{
    io::{AsyncWriteExt as _, BufReader, copy_buf},
    time::{error::Elapsed, timeout},
};

use super::{Connection, Gone, Guard, Helper};
use crate::{
    boundary::{
        limits,
        protocol::{self, REPLY_BYTES_MAX, Reply},
    },
    runtime::{Pipe, RuntimeError},
};

impl Helper {
    pub(super) async fn logs(
        &self,
        guard: &Guard,
        (container_id, query): (&str, LogsQuery),
        connection: &mut Connection,
    ) -> Result<(), Gone> {
        let Ok(_permit) = self.readers.try_acquire() else {
            let why = "too many logs are being read already".to_owned();
            return connection.send(&Reply::NotServed(why)).await;
        };
        let mut entries = match guard.logs(container_id, query).await {
            Ok(entries) => entries,
            Err(error) => return connection.send(&Reply::Failed(error.into())).await,
        };
        loop {
            let entry = tokio::select! {
                entry = entries.next() => entry,
                () = connection.closed() => return Err(Gone),
                () = self.shutdown.cancelled() => return Ok(()),
            };
            match entry {
                Some(Ok(entry)) => self.send_line(&Reply::Entry(entry), connection).await?,
                Some(Err(error)) => return connection.send(&Reply::Failed(error.into())).await,
                None => return connection.send(&Reply::Done(serde_json::Value::Null)).await,
            }
        }
    }

    /// However long the agent takes: whoever reads may have stopped to think.
    async fn send_line(&self, reply: &Reply, connection: &mut Connection) -> Result<(), Gone> {
        tokio::select! {
            sent = protocol::send(&mut connection.writer, reply, REPLY_BYTES_MAX) => {
                sent.map_err(|_| Gone)
            }
            () = self.shutdown.cancelled() => Err(Gone),
        }
    }

    pub(super) async fn enter(
        &self,
        entering: impl Future<Output = Result<Result<Pipe, RuntimeError>, Elapsed>>,
        connection: &mut Connection,
    ) -> Result<(), Gone> {
        let Ok(_permit) = self.entered.try_acquire() else {
            let why = "too many containers are entered already".to_owned();
            return connection.send(&Reply::NotServed(why)).await;
        };
        let entered = tokio::select! {
            entered = entering => entered,
            () = self.shutdown.cancelled() => return Ok(()),
        };
        let late = || RuntimeError::Unavailable("the engine didn't start it in time".to_owned());
        let pipe = match entered.unwrap_or_else(|_| Err(late())) {
            Ok(pipe) => pipe,
            Err(error) => {
                tracing::debug!(%error, "a container can't be entered");
                return connection.send(&Reply::Failed(error.into())).await;
            }
        };
        connection
            .send(&Reply::Done(serde_json::Value::Null))
            .await?;
        let (from_container, mut to_container) = tokio::io::split(pipe);
        let mut from_container = BufReader::with_capacity(limits::CARRIED_BYTES, from_container);
        let mut from_agent =
            BufReader::with_capacity(limits::CARRIED_BYTES, &mut connection.reader);
        // the end of either direction is that of both; how it came is nobody's question
        tokio::select! {
            _ended = copy_buf(&mut from_container, &mut connection.writer) => {}
            _ended = copy_buf(&mut from_agent, &mut to_container) => {}
            () = self.shutdown.cancelled() => {}
        }
        // so that what was started there learns of it
        drop(timeout(limits::LEAVE, to_container.shutdown()).await);
        Ok(())
    }
}
