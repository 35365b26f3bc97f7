//! The command line's side of the operator's socket.

use std::{io, path::Path, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::BufReader,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use super::protocol::{self, ANSWER_BYTES_MAX, Answer, QUESTION_BYTES_MAX, Question, WAIT_MS_MAX};

/// Longer than the agent waits for anything.
const ANSWER_WITHIN: Duration = Duration::from_millis(WAIT_MS_MAX + 10_000);

/// A connection to the running agent.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Client {
    /// Connects to the agent that listens at `path`; `None` if none does.
    ///
    /// # Errors
    /// It may not be asked by this user.
    pub async fn connect(path: &Path) -> anyhow::Result<Option<Self>> {
        match UnixStream::connect(path).await {
            Ok(stream) => {
                let (reader, writer) = stream.into_split();
                Ok(Some(Self {
                    reader: BufReader::new(reader),
                    writer,
                }))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| {
                format!(
                    "the agent's socket {} can't be used; ask as root or as the agent's user (sudo ramarket-agent …)",
                    path.display()
                )
            }),
        }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The agent refuses, or went away.
    pub async fn ask(&mut self, question: &Question) -> anyhow::Result<Answer> {
        let exchange = async {
            protocol::send(&mut self.writer, question, QUESTION_BYTES_MAX).await?;
            protocol::receive(&mut self.reader, ANSWER_BYTES_MAX).await
        };
        let closed =
            "the agent closed the connection: it hears root and its own user only, or it is ending";
        let answer = match timeout(ANSWER_WITHIN, exchange).await {
            Err(_) => anyhow::bail!("the agent doesn't answer"),
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => anyhow::bail!(closed),
            Ok(Err(error)) if is_closed(error.kind()) => anyhow::bail!(closed),
            Ok(Err(error)) => return Err(error).context("the agent's answer can't be read"),
        };
        match answer {
            Answer::Refused { reason } => anyhow::bail!(reason),
            other => Ok(other),
        }
    }
}

const fn is_closed(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}
