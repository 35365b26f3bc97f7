//! A connection to what serves within a container.
//!
//! An engine gives one out as a unix socket on which the program's input goes as it is, and its outputs come in parts behind headers. Whoever
//! has the socket can hand it on (`boundary`), so that no process between carries bytes.
//!
//! # Invariants
//! - A part is only taken apart: its payload goes to the reader as it came, and a header is never believed beyond its own part.
//! - What the program complains of (its error output) is for the log, and never reaches the reader.
//! - An end within a part is an error, not an end. So is the end of whoever stands by the connection.
//! - Small writes go out together when they are flushed.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    net::UnixStream,
};

/// What is in hand of each direction.
const BUFFER_BYTES: usize = 64 * 1_024;
/// Of a part: which output it is of, three zeros, its length in four bytes.
pub(crate) const HEAD_BYTES: usize = 8;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// Bytes of a complaint that the log shows.
const SHOWN_BYTES_MAX: usize = 200;

/// How what the program says comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Form {
    /// As it is.
    Plain {},
    /// In parts of its outputs, of the first of which so much is still to come.
    Parts {
        /// Bytes.
        left: u32,
    },
}

/// What a part is of, and what of it is still to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    output: u8,
    pub(crate) left: usize,
}

impl Part {
    /// # Errors
    /// It is none.
    pub(crate) fn of(head: [u8; HEAD_BYTES]) -> io::Result<Self> {
        let [output @ (STDOUT | STDERR), 0, 0, 0, a, b, c, d] = head else {
            let why = "the engine doesn't say whose output this is";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        };
        let left = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(io::Error::other)?;
        Ok(Self { output, left })
    }

    /// Whether it is what the program says; its complaints are not.
    pub(crate) const fn is_said(&self) -> bool {
        self.output == STDOUT
    }
}

/// The connection. Dropping it ends what was started.
pub struct Pipe {
    connection: BufWriter<UnixStream>,
    /// `None`: bytes as they are.
    part: Option<Part>,
    /// Read and not handed out: from `start` to `end`.
    unread: Box<[u8]>,
    start: usize,
    end: usize,
    /// Closed when whoever gave the connection out doesn't stand by it any more.
    keeper: Option<UnixStream>,
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

impl Pipe {
    /// Over a connection from which nothing was read that wasn't taken.
    #[must_use]
    pub fn new(connection: UnixStream, form: Form) -> Self {
        let part = match form {
            Form::Plain {} => None,
            Form::Parts { left } => Some(Part {
                output: STDOUT,
                left: usize::try_from(left).unwrap_or(usize::MAX),
            }),
        };
        Self {
            connection: BufWriter::with_capacity(BUFFER_BYTES, connection),
            part,
            unread: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            keeper: None,
        }
    }

    /// Breaks when `keeper` is closed, or says anything.
    pub(crate) fn kept_by(self, keeper: UnixStream) -> Self {
        Self {
            keeper: Some(keeper),
            ..self
        }
    }

    /// To be handed on, before anything was read or written.
    ///
    /// # Errors
    /// The runtime doesn't let go of it.
    pub(crate) fn into_parts(self) -> io::Result<(OwnedFd, Form)> {
        let form = match self.part {
            None => Form::Plain {},
            Some(part) => Form::Parts {
                left: u32::try_from(part.left).map_err(io::Error::other)?,
            },
        };
        let connection = self.connection.into_inner().into_std()?;
        Ok((connection.into(), form))
    }

    /// Whether whoever gave it out still stands by it.
    fn is_kept(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(keeper) = &mut self.keeper else {
            return true;
        };
        let mut byte = [0; 1];
        Pin::new(keeper)
            .poll_read(cx, &mut ReadBuf::new(&mut byte))
            .is_pending()
    }

    /// Reads from the connection behind what wasn't handed out; `false` at its end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.unread.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let mut space = ReadBuf::new(&mut self.unread[self.end..]);
        ready!(Pin::new(self.connection.get_mut()).poll_read(cx, &mut space))?;
        let read = space.filled().len();
        self.end += read;
        Poll::Ready(Ok(read > 0))
    }

    /// How much of what was read is the reader's now: at most so much, and none if more must be read first.
    fn take_up(&mut self, bytes_max: usize) -> io::Result<usize> {
        loop {
            let here = self.end - self.start;
            let Some(part) = &mut self.part else {
                return Ok(here.min(bytes_max));
            };
            if part.left == 0 {
                let Some(head) = self.unread[self.start..self.end].first_chunk() else {
                    return Ok(0);
                };
                *part = Part::of(*head)?;
                self.start += HEAD_BYTES;
                continue;
            }
            let of_part = here.min(part.left);
            if part.is_said() || of_part == 0 {
                let taken = of_part.min(bytes_max);
                part.left -= taken;
                return Ok(taken);
            }
            part.left -= of_part;
            let shown = of_part.min(SHOWN_BYTES_MAX);
            let said = String::from_utf8_lossy(&self.unread[self.start..self.start + shown]);
            tracing::debug!(said = said.as_ref(), "a word from within");
            self.start += of_part;
        }
    }
}

fn cut(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, why)
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_kept(cx) {
            return Poll::Ready(Err(cut("the helper has ended")));
        }
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let taken = this.take_up(buffer.remaining())?;
            if taken > 0 {
                buffer.put_slice(&this.unread[this.start..this.start + taken]);
                this.start += taken;
                return Poll::Ready(Ok(()));
            }
            if !ready!(this.poll_fill(cx))? {
                let within = this.start < this.end || this.part.is_some_and(|part| part.left > 0);
                return Poll::Ready(if within {
                    Err(cut("the engine broke off"))
                } else {
                    Ok(())
                });
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn pair(form: Form) -> (Pipe, UnixStream) {
        let (near, far) = UnixStream::pair().expect("a pair");
        (Pipe::new(near, form), far)
    }

    fn part(output: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short");
        let mut part = vec![output, 0, 0, 0];
        part.extend(length.to_be_bytes());
        part.extend(payload);
        part
    }

    #[tokio::test]
    async fn parts_are_taken_apart_however_they_are_cut() {
        let noise: Vec<u8> = (0..=u8::MAX).cycle().take(3 * BUFFER_BYTES).collect();
        let mut wire = b"rest".to_vec();
        wire.extend(part(STDERR, b"a complaint"));
        wire.extend(part(STDOUT, b""));
        wire.extend(part(STDERR, &noise));
        wire.extend(part(STDOUT, &noise));
        for cut in [1, 7, 8, 9, 4_096, wire.len()] {
            let (mut pipe, mut far) = pair(Form::Parts { left: 4 });
            let wire = wire.clone();
            let sending = tokio::spawn(async move {
                for piece in wire.chunks(cut) {
                    far.write_all(piece).await.expect("sent");
                }
            });
            let mut said = Vec::new();
            pipe.read_to_end(&mut said).await.expect("read");
            sending.await.expect("sent");
            assert!(said.starts_with(b"rest"), "by {cut}");
            assert!(said[4..] == noise, "by {cut}");
        }
    }

    #[tokio::test]
    async fn an_end_within_a_part_is_none_and_what_is_no_part_is_refused() {
        let whole = part(STDOUT, b"x");
        for (wire, ends_well) in [
            (whole.as_slice(), true),
            (&whole[..8], false),
            (&whole[..3], false),
            (b"HTTP/1.1 400 Bad", false),
            (&[3, 0, 0, 0, 0, 0, 0, 0], false),
            (&[1, 0, 0, 9, 0, 0, 0, 0], false),
        ] {
            let (mut pipe, mut far) = pair(Form::Parts { left: 0 });
            far.write_all(wire).await.expect("sent");
            drop(far);
            let read = pipe.read_to_end(&mut Vec::new()).await;
            assert_eq!(read.is_ok(), ends_well, "{wire:?}");
        }
    }

    #[tokio::test]
    async fn small_writes_go_out_together_and_it_breaks_with_its_keeper() {
        let (pipe, mut far) = pair(Form::Plain {});
        let (keeper, kept) = UnixStream::pair().expect("a pair");
        let mut pipe = pipe.kept_by(keeper);
        for word in ["one", "two"] {
            pipe.write_all(word.as_bytes()).await.expect("taken");
        }
        let early = far.try_read(&mut [0; 8]).expect_err("not flushed");
        assert_eq!(early.kind(), io::ErrorKind::WouldBlock);
        pipe.flush().await.expect("sent");
        let mut got = [0; 8];
        assert_eq!(far.read(&mut got).await.expect("read"), 6);
        far.write_all(b"back").await.expect("sent");
        assert_eq!(pipe.read(&mut got).await.expect("read"), 4);
        drop(kept);
        let broken = pipe.read(&mut got).await.expect_err("broken");
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
    }
}
