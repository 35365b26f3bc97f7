//! What agent and helper say to each other: one connection for each call, frames of JSON behind their length.
//!
//! # Invariants
//! - A frame is bounded before it is read: [`REQUEST_BYTES_MAX`] from the agent, [`REPLY_BYTES_MAX`] from the helper.
//! - The first frame names the protocol's version and is read for it alone first: two programs of different versions say so, and
//!   nothing else.
//! - A request is one of a handful of verbs over typed arguments; an unknown verb or field is refused, never ignored.
//! - Closing the connection is how a call is given up.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shared::{
    link::open::{Entry, LogsQuery},
    wire::desired::DesiredRental,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::runtime::{Event, Fetch, PullProgress, RuntimeError, code};

/// Of this protocol.
pub(super) const VERSION: u32 = 2;
/// A rental's specification is at most some 50 KiB before JSON escapes it.
pub(super) const REQUEST_BYTES_MAX: usize = 512 * 1_024;
/// A thousand containers fit.
pub(super) const REPLY_BYTES_MAX: usize = 4 << 20;

/// The only frame that an agent sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// [`VERSION`].
    pub(super) version: u32,
    /// The label of the agent's containers; empty before the machine is enrolled, when only [`Call::Facts`] and
    /// [`Call::SelfTest`] are answered.
    pub(super) scope: String,
    /// What is wanted.
    pub(super) call: Call,
}

/// What of a request is understood whatever its version.
#[derive(Debug, Deserialize)]
pub(super) struct Greeting {
    pub(super) version: u32,
}

/// The verbs: those of [`crate::runtime::ContainerRuntime`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Call {
    /// What the engine is.
    Facts {},
    /// A rental of nobody's through its whole life; asked without a scope as well.
    SelfTest {},
    /// What running rentals take of the disk.
    DiskUse {},
    /// All containers of the scope.
    List {},
    /// One of them.
    Inspect { container_id: String },
    /// Fetches an image; answers with progress until it is done.
    Pull { wanted: Box<Fetch> },
    /// Creates a rental's container.
    Create { rental: Box<DesiredRental> },
    /// Starts a created one.
    Start { container_id: String },
    /// Asks it to end, and kills it after `grace_ms`.
    Stop { container_id: String, grace_ms: u64 },
    /// Removes it.
    Remove { container_id: String },
    /// Changes of the scope's containers since a moment, until the connection is closed.
    Events { since_micros: i64 },
    /// What a container wrote, until it ends or the connection is closed.
    Logs {
        container_id: String,
        query: Box<LogsQuery>,
    },
    /// Starts what serves within a running container; behind [`Reply::Done`] with its [`Form`](crate::runtime::Form) comes the connection to
    /// it, as a descriptor. Closing this connection, at either end, gives it up.
    Enter { container_id: String },
}

impl Call {
    /// For log lines.
    pub(super) const fn verb(&self) -> &'static str {
        match self {
            Self::Facts {} => "facts",
            Self::SelfTest {} => "self_test",
            Self::DiskUse {} => "disk_use",
            Self::List {} => "list",
            Self::Inspect { .. } => "inspect",
            Self::Pull { .. } => "pull",
            Self::Create { .. } => "create",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Remove { .. } => "remove",
            Self::Events { .. } => "events",
            Self::Logs { .. } => "logs",
            Self::Enter { .. } => "enter",
        }
    }
}

/// A frame of the helper's. [`Reply::Progress`], [`Reply::Event`] and [`Reply::Entry`] come before the last one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Reply {
    /// How far a pull is.
    Progress(PullProgress),
    /// Something happened to a container.
    Event(Event),
    /// A line that a container wrote.
    Entry(Entry),
    /// The call's result as JSON.
    Done(serde_json::Value),
    /// The call's error.
    Failed(Failure),
    /// The helper doesn't serve this request at all: wrong version, scope or form, or too many of its kind. Says nothing about the engine.
    NotServed(String),
}

/// [`RuntimeError`], as it is sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Failure {
    Unavailable { reason: String },
    Refused { code: String, reason: String },
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Unavailable(reason) | RuntimeError::Busy(reason) => {
                Self::Unavailable { reason }
            }
            RuntimeError::Refused { code, reason } => Self::Refused {
                code: code.to_owned(),
                reason,
            },
        }
    }
}

impl From<Failure> for RuntimeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable { reason } => Self::Unavailable(reason),
            Failure::Refused { code, reason } => Self::refused(code::known(&code), reason),
        }
    }
}

/// Sends one frame of at most `bytes_max`.
///
/// # Errors
/// The other end is gone, or the message is too large.
pub(super) async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
    bytes_max: usize,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= bytes_max)
        .ok_or_else(|| invalid(format!("a message of {} bytes is too large", body.len())))?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    stream.write_all(&frame).await
}

/// Receives the bytes of one frame of at most `bytes_max`.
///
/// # Errors
/// The other end is gone, or announces more than that.
pub(super) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(invalid(format!("a frame of {length} bytes is too large")));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// The message in a frame.
///
/// # Errors
/// It isn't one.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
