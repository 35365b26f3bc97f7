//! The calls that go on: what a container writes, and the connection to what serves within one.
//!
//! # Invariants
//! - How many there are at once is bounded (`limits`), and so is what is in hand of each; a slow agent slows them down.
//! - They end with their connection, and at the helper's own end. A connection into a container was handed to the agent by then: an honest
//!   one drops it, and what another might do with it ends with the container.

use std::{
    future::Future,
    os::fd::{AsFd as _, OwnedFd},
};

use futures_util::StreamExt as _;
use shared::link::open::LogsQuery;
use tokio::time::{error::Elapsed, timeout};

use super::{Connection, Gone, Guard, Helper};
use crate::{
    boundary::{
        handover, limits,
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
        let _place = match self.readers.enter(container_id) {
            Ok(place) => place,
            Err(why) => return connection.send(&Reply::NotServed(why.to_owned())).await,
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
        let (descriptor, form) = match handed_on(pipe) {
            Ok(parts) => parts,
            Err(error) => return connection.send(&Reply::Failed(error.into())).await,
        };
        connection.send(&Reply::Done(form)).await?;
        let given = handover::give(connection.writer.as_ref(), descriptor.as_fd());
        let given = timeout(limits::REPLY, given).await;
        given.map_err(|_| Gone)?.map_err(|_| Gone)?;
        // now it is the agent's alone
        drop(descriptor);
        tokio::select! {
            () = connection.closed() => {}
            () = self.shutdown.cancelled() => {}
        }
        Ok(())
    }
}

/// The pipe's connection, and how it is read.
fn handed_on(pipe: Pipe) -> Result<(OwnedFd, serde_json::Value), RuntimeError> {
    let parts = pipe.into_parts().and_then(|(descriptor, form)| {
        let form = serde_json::to_value(form)?;
        Ok((descriptor, form))
    });
    parts.map_err(|error| RuntimeError::Unavailable(format!("it can't be handed on: {error}")))
}
