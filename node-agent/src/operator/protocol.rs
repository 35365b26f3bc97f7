//! What command line and running agent say to each other: a line of JSON each way, as often as wanted on one connection.
//!
//! # Invariants
//! - A line is bounded before it is read. An unknown question or field is refused, never ignored.

use std::io;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use shared::wire::operator::{Outcome, Wish};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};

use crate::status::Status;

/// The longest question.
pub const QUESTION_BYTES_MAX: usize = 16 * 1_024;
/// The longest answer: 256 rentals fit.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;
/// The longest wait for an order's outcome, milliseconds.
pub const WAIT_MS_MAX: u64 = 30_000;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// How the agent is doing.
    Status {},
    /// Something for the market.
    Order {
        /// What.
        wish: Wish,
    },
    /// To empty the node: the market's clock counts, which the agent knows.
    Drain {
        /// After this time what still runs is ended; never if `None`. Milliseconds.
        within_ms: Option<i64>,
    },
    /// What became of an order, once it is known or the wait is over.
    Outcome {
        /// Its number.
        number: i64,
        /// How long to wait for it.
        wait_ms: u64,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// How it is doing.
    Status(Box<Status>),
    /// The order is kept under this number.
    Taken {
        /// Its number.
        number: i64,
    },
    /// What became of it; `None` while the market hasn't answered.
    Outcome {
        /// The market's word.
        outcome: Option<Outcome>,
    },
    /// It can't be done.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// Sends one line.
///
/// # Errors
/// The other end is gone, or the message is too long.
pub async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
    bytes_max: usize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() > bytes_max {
        return Err(invalid(format!(
            "a line of {} bytes is too long",
            line.len()
        )));
    }
    stream.write_all(&line).await
}

/// Receives one line; `None` when the other end has no more to say.
///
/// # Errors
/// It is too long, cut off, or not such a message.
pub async fn receive<T: DeserializeOwned>(
    stream: &mut (impl AsyncBufRead + Unpin),
    bytes_max: usize,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    stream.take(limit).read_until(b'\n', &mut line).await?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| invalid(error.to_string())),
        Some(_) => Err(invalid(format!(
            "a line is cut off, or longer than {bytes_max} bytes"
        ))),
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
