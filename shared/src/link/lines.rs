//! JSON by line: what control streams, logs and samples are made of.
//!
//! # Invariants
//! - A line is at most [`LINE_BYTES_MAX`] long; a longer one is an error, never memory.

use std::io;

use bytes::BytesMut;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::open::LINE_BYTES_MAX;

const READ_BYTES: usize = 8 * 1_024;

/// Sends a line.
///
/// # Errors
/// The stream broke, or the line would be too long.
pub async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    line: &T,
) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    if bytes.len() >= LINE_BYTES_MAX {
        return Err(too_long());
    }
    bytes.push(b'\n');
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads lines.
#[derive(Debug)]
pub struct Lines<S> {
    stream: S,
    unread: BytesMut,
    /// So much of it has no end of a line.
    looked_at: usize,
}

impl<S: AsyncRead + Unpin> Lines<S> {
    /// From here on.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            unread: BytesMut::new(),
            looked_at: 0,
        }
    }

    /// The next line; `None` at the end. May be dropped and called again.
    ///
    /// # Errors
    /// The stream broke or ended within a line, or the line is too long or something else.
    pub async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            let rest = &self.unread[self.looked_at..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(self.looked_at + end + 1);
                self.looked_at = 0;
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            self.looked_at = self.unread.len();
            if self.looked_at >= LINE_BYTES_MAX {
                return Err(too_long());
            }
            self.unread.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return if self.unread.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// The stream, to write to.
    pub const fn stream(&mut self) -> &mut S {
        &mut self.stream
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a line is too long")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::open::Control;

    #[tokio::test]
    async fn lines_come_as_they_went() {
        let mut wire = Vec::new();
        for control in [Control::Beat, Control::Ping, Control::Pong] {
            write(&mut wire, &control).await.expect("written");
        }
        let mut lines = Lines::new(wire.as_slice());
        for control in [Control::Beat, Control::Ping, Control::Pong] {
            assert_eq!(lines.next().await.expect("read"), Some(control));
        }
        assert_eq!(lines.next::<Control>().await.expect("the end"), None);
    }

    #[tokio::test]
    async fn what_is_long_cut_or_else_is_refused() {
        let long = "x".repeat(LINE_BYTES_MAX);
        write(&mut Vec::new(), &long).await.expect_err("too long");
        for bytes in [long.as_bytes(), b"\"beat\"", b"\"dance\"\n", b"\n"] {
            let mut lines = Lines::new(bytes);
            lines.next::<Control>().await.expect_err("refused");
        }
    }
}
