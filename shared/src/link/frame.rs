//! What flows while a program runs: its input and outputs, its terminal's size, how it ended.
//!
//! # Invariants
//! - A frame is a byte for its kind, its length as four bytes (big end first) and at most [`FRAME_BYTES_MAX`] of payload.
//! - [`Frame::Exit`] is the last of the program's side; an empty [`Frame::Stdin`] is the end of its input.
//! - Who asked for the program keeps its half of the stream open until then: ending it hangs the program up.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::open::Size;

/// Bytes of a frame's payload.
pub const FRAME_BYTES_MAX: usize = 32 * 1_024;
/// Bytes before the payload.
pub(super) const HEAD_BYTES: usize = 5;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the program; empty at the end.
    Stdin(Vec<u8>),
    /// The terminal's new size.
    Resize(Size),
    /// A signal to the program's group, by its number.
    Signal(u8),
    /// From the program.
    Stdout(Vec<u8>),
    /// From the program.
    Stderr(Vec<u8>),
    /// It has ended.
    Exit(Exit),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// As shells tell it: 128 and the signal's number.
    #[must_use]
    pub const fn status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128_i32.saturating_add(signal),
        }
    }
}

/// Sends a frame. Payloads longer than [`FRAME_BYTES_MAX`] are refused: who reads them reads no more at once.
///
/// # Errors
/// The stream broke.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> io::Result<()> {
    let size;
    let json;
    let (kind, payload): (u8, &[u8]) = match frame {
        Frame::Stdin(bytes) => (0, bytes),
        Frame::Stdout(bytes) => (1, bytes),
        Frame::Stderr(bytes) => (2, bytes),
        Frame::Resize(to) => {
            let [a, b] = to.columns.to_be_bytes();
            let [c, d] = to.rows.to_be_bytes();
            size = [a, b, c, d];
            (3, &size)
        }
        Frame::Signal(number) => (4, std::slice::from_ref(number)),
        Frame::Exit(exit) => {
            json = serde_json::to_vec(exit)?;
            (5, &json)
        }
    };
    let length = u32::try_from(payload.len()).ok();
    let length = length.filter(|_| payload.len() <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| invalid("the payload is too long"))?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// The next frame; `None` at the end of the stream.
///
/// # Errors
/// The stream broke, ended within a frame, or carries something else.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD_BYTES];
    if stream.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..]).await?;
    let [kind, a, b, c, d] = head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(io::Error::other)?;
    if length > FRAME_BYTES_MAX {
        return Err(invalid("a frame is too long"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok(Some(match (kind, payload.as_slice()) {
        (0, _) => Frame::Stdin(payload),
        (1, _) => Frame::Stdout(payload),
        (2, _) => Frame::Stderr(payload),
        (3, [a, b, c, d]) => Frame::Resize(Size {
            columns: u16::from_be_bytes([*a, *b]),
            rows: u16::from_be_bytes([*c, *d]),
        }),
        (4, [number]) => Frame::Signal(*number),
        (5, json) => {
            Frame::Exit(serde_json::from_slice(json).map_err(|_| invalid("an exit is malformed"))?)
        }
        _ => return Err(invalid("a frame is of no known kind")),
    }))
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_frame_comes_as_it_went() {
        let size = Size {
            columns: 300,
            rows: 5,
        };
        let frames = [
            Frame::Stdin(b"in".to_vec()),
            Frame::Stdin(Vec::new()),
            Frame::Resize(size),
            Frame::Signal(15),
            Frame::Stdout(vec![0; FRAME_BYTES_MAX]),
            Frame::Stderr(b"err".to_vec()),
            Frame::Exit(Exit::Code(3)),
            Frame::Exit(Exit::Signal(9)),
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            write(&mut wire, frame).await.expect("written");
        }
        let mut wire = wire.as_slice();
        for frame in frames {
            assert_eq!(read(&mut wire).await.expect("read"), Some(frame));
        }
        assert_eq!(read(&mut wire).await.expect("read"), None);
        assert_eq!(Exit::Signal(9).status(), 137);
    }

    #[tokio::test]
    async fn what_is_too_long_cut_or_unknown_is_refused() {
        let long = Frame::Stdout(vec![0; FRAME_BYTES_MAX + 1]);
        write(&mut Vec::new(), &long).await.expect_err("too long");
        for bytes in [
            &[1, 0xff, 0, 0, 0][..],
            &[1, 0, 0, 0, 2, 9],
            &[1, 0, 0],
            &[9, 0, 0, 0, 0],
            &[3, 0, 0, 0, 1, 9],
            &[5, 0, 0, 0, 1, b'x'],
        ] {
            let mut bytes = bytes;
            read(&mut bytes).await.expect_err("refused");
        }
    }
}
