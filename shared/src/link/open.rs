//! How a stream begins: what is wanted, and whether it is given.
//!
//! # Invariants
//! - One JSON message each way behind its length, at most [`MESSAGE_BYTES_MAX`]; what isn't understood is refused, never ignored.
//! - Who opened a stream for a program, logs or samples keeps its half open for as long as it listens: ending it ends the stream.
//! - After [`Opened::Ready`] flow, by kind: lines of [`Control`] and [`Entry`] (JSON, one each line), [`super::frame`]s (exec), raw bytes (sftp, dial).

use std::{collections::BTreeMap, io, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::{id::RentalId, time::Timestamp};

/// Bytes of what opens a stream, and of the answer.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1_024;
/// Who opened a stream says what it wants by then.
pub const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a line of the control stream, and of one of logs.
pub const LINE_BYTES_MAX: usize = 64 * 1_024;

/// What a stream is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Open {
    /// The first stream of a link: when to beat, and whether the other end lives.
    Control {},
    /// What a rental wrote.
    Logs {
        /// Which.
        rental_id: RentalId,
        /// Which part of it.
        query: LogsQuery,
    },
    /// A program in a rental.
    Exec {
        /// Where.
        rental_id: RentalId,
        /// What and how.
        exec: Exec,
    },
    /// Files of a rental, by SFTP version 3.
    Sftp {
        /// Whose.
        rental_id: RentalId,
    },
    /// A TCP connection made in the rental's own network.
    Dial {
        /// Whose.
        rental_id: RentalId,
        /// A name or an address, as seen there; `localhost` is the rental itself.
        host: String,
        /// At which port.
        port: u16,
    },
    /// What a rental used, by sample.
    Metrics {
        /// Which.
        rental_id: RentalId,
        /// Whether new samples follow.
        follow: bool,
    },
}

impl Open {
    /// Which rental it is about.
    #[must_use]
    pub const fn rental_id(&self) -> Option<RentalId> {
        match self {
            Self::Control {} => None,
            Self::Logs { rental_id, .. }
            | Self::Exec { rental_id, .. }
            | Self::Sftp { rental_id }
            | Self::Dial { rental_id, .. }
            | Self::Metrics { rental_id, .. } => Some(*rental_id),
        }
    }
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program and its arguments; a login shell if empty.
    pub command: Vec<String>,
    /// Whether `command` is one word for the user's shell, as SSH has it.
    #[serde(default)]
    pub shell: bool,
    /// A terminal, with its size; pipes if `None`.
    pub terminal: Option<Terminal>,
    /// Variables besides the container's own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terminal {
    /// Its kind, for `TERM`.
    pub term: String,
    /// Its size.
    pub size: Size,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// Which part of what a rental wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsQuery {
    /// Not before, by the node's clock.
    pub since: Option<Timestamp>,
    /// So many lines from the end.
    pub tail: Option<u32>,
    /// One of both only.
    pub stream: Option<Output>,
    /// Lines with this text only.
    pub search: Option<String>,
    /// Whether what is written from now on follows.
    #[serde(default)]
    pub follow: bool,
}

/// Where a program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Standard output, and a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line that a rental wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When, by the node's clock.
    pub at: Timestamp,
    /// Where.
    pub stream: Output,
    /// Without its end; what isn't UTF-8 is replaced.
    pub line: String,
}

/// What a rental used, at a moment. Counters begin with its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// When, by the node's clock.
    pub at: Timestamp,
    /// CPU time so far, nanoseconds.
    pub cpu_ns: i64,
    /// Memory in use; `None` if it couldn't be read.
    pub ram_bytes: Option<i64>,
    /// Bytes received so far.
    pub rx_bytes: i64,
    /// Bytes sent so far.
    pub tx_bytes: i64,
    /// What it takes of the disk: the layer over its image as the node counted it last, and what is on a disk of its own. `None` until it
    /// was looked at, and where the node can't see it.
    pub disk_bytes: Option<i64>,
    /// Its GPUs.
    pub gpus: Vec<GpuSample>,
}

/// How one of a rental's GPUs is used, at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuSample {
    /// Which.
    pub uuid: String,
    /// Share of time that something ran on it, per cent; `None` where it doesn't say.
    pub busy_percent: Option<i64>,
    /// Memory in use.
    pub vram_used_bytes: i64,
}

/// A line of the control stream. The coordinator opens it, and sends `Beat` and `Ping`; the agent answers `Pong`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Beat now.
    Beat,
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Opened {
    /// It follows.
    Ready {},
    /// It doesn't.
    Refused {
        /// One of [`code`].
        code: String,
        /// What happened and what to do, for whoever rents.
        detail: String,
    },
}

/// Codes of [`Opened::Refused`].
pub mod code {
    /// No such rental on this node.
    pub const UNKNOWN_RENTAL: &str = "rental_not_here";
    /// It hasn't started, or has ended.
    pub const NOT_RUNNING: &str = "rental_not_running";
    /// The program isn't there or can't be run.
    pub const NOT_STARTED: &str = "command_not_started";
    /// Nobody listens there.
    pub const NOT_CONNECTED: &str = "port_not_open";
    /// It is not for a rental to reach.
    pub const NOT_ALLOWED: &str = "address_not_allowed";
    /// As many streams as may be are open.
    pub const TOO_MANY: &str = "too_many_streams";
    /// Of a newer version.
    pub const NOT_SUPPORTED: &str = "stream_not_supported";
    /// The node can't, for now.
    pub const UNAVAILABLE: &str = "node_unavailable";
}

impl Opened {
    /// A refusal.
    #[must_use]
    pub fn refused(code: &str, detail: impl Into<String>) -> Self {
        Self::Refused {
            code: code.to_owned(),
            detail: detail.into(),
        }
    }
}

/// Whether a message can be sent: its text as JSON may be six times as long as what it says.
#[must_use]
pub fn fits<T: Serialize>(message: &T) -> bool {
    serde_json::to_vec(message).is_ok_and(|body| body.len() <= MESSAGE_BYTES_MAX)
}

/// Sends a message.
///
/// # Errors
/// The stream broke, or the message is too large.
pub async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    if body.len() > MESSAGE_BYTES_MAX {
        return Err(invalid(format!("{} bytes are too many", body.len())));
    }
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(&body);
    stream.write_all(&message).await?;
    stream.flush().await
}

/// Receives a message, within [`OPEN_WITHIN`].
///
/// # Errors
/// The stream broke or is silent, or what came is too large or not understood.
pub async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let read = async {
        let length = usize::try_from(stream.read_u32().await?).map_err(io::Error::other)?;
        if length > MESSAGE_BYTES_MAX {
            return Err(invalid(format!("{length} bytes are too many")));
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the other end said nothing");
    timeout(OPEN_WITHIN, read).await.map_err(|_| late())?
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::id::Ids;

    #[tokio::test]
    async fn what_is_sent_is_received() {
        let (mut one, mut two) = duplex(1_024);
        let open = Open::Exec {
            rental_id: Ids::counting().mint(),
            exec: Exec {
                command: vec!["sh".to_owned()],
                terminal: Some(Terminal {
                    term: "xterm".to_owned(),
                    size: Size {
                        columns: 80,
                        rows: 24,
                    },
                }),
                ..Exec::default()
            },
        };
        send(&mut one, &open).await.expect("sent");
        let got: Open = receive(&mut two).await.expect("received");
        assert_eq!(got, open);
    }

    #[tokio::test]
    async fn what_fits_is_what_can_be_sent() {
        let exec = |command: String| Exec {
            command: vec![command],
            ..Exec::default()
        };
        for (letter, room) in [("x", 60_000), ("\"", 32_000), ("\u{1}", 10_000)] {
            let small = exec(letter.repeat(room));
            assert!(fits(&small) && send(&mut Vec::new(), &small).await.is_ok());
            let large = exec(letter.repeat(room + 6_000));
            assert!(!fits(&large) && send(&mut Vec::new(), &large).await.is_err());
        }
    }

    #[tokio::test]
    async fn what_is_too_large_or_strange_is_refused() {
        for bytes in [
            &u32::MAX.to_be_bytes()[..],
            b"\0\0\0\x02{}",
            b"\0\0\0\x10{\"reboot\":{\"x\":1",
            b"\0\0",
        ] {
            let mut bytes = bytes;
            assert!(receive::<Open>(&mut bytes).await.is_err());
        }
    }
}
