//! What a connection holds in memory, and how its client is held back.
//!
//! The SSH library opens a channel's window as data arrives, not as it is taken, so windows alone bound nothing. The bound is here: while a
//! connection holds more than [`HELD_BYTES_MAX`] that no rental took, nothing more is read from its socket. Reading must not stop as
//! strictly while we wait for the client's own windows, since what opens them comes behind what isn't read: then up to
//! [`WAITING_BYTES_MAX`] more is taken. (A program that copies its input to its output would stop for good otherwise.) That is enough
//! because windows are small ([`WINDOW_BYTES_MIN`]) while much is held: between two messages that open a client's window there is less
//! than what each of them lets out.
//!
//! # Invariants
//! - Each byte that is held is counted once, with what holding it costs, and given back when it is taken or its channel ends.
//! - A connection that was cut neither reads nor writes any more.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, ReadBuf},
    time::Instant,
};

/// What a connection may hold that no rental took.
pub(super) const HELD_BYTES_MAX: usize = 2 * 1_024 * 1_024;
/// What it may hold besides while we wait for the client's windows: more than a client may have sent before it heard of ours.
const WAITING_BYTES_MAX: usize = 8 * 1_024 * 1_024;
/// What a client may send to a channel before it hears that more is wanted.
pub(super) const WINDOW_BYTES_MAX: u32 = 2 * 1_024 * 1_024;
/// The same while much is held.
pub(super) const WINDOW_BYTES_MIN: u32 = 48 * 1_024;
/// Read from a socket at once.
const READ_BYTES: usize = 64 * 1_024;

/// The account of one connection.
#[derive(Debug)]
pub(super) struct Flow {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    held_bytes: usize,
    /// Writers that wait for a window of the client's.
    waiting: usize,
    is_cut: bool,
    moved_at: Instant,
    /// Reading stopped: whoever makes room wakes it.
    is_stopped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    const fn may_read(&self) -> bool {
        let extra = if self.waiting > 0 {
            WAITING_BYTES_MAX
        } else {
            0
        };
        self.held_bytes <= HELD_BYTES_MAX + extra
    }

    /// Whom to wake since reading may go on.
    fn resumed(&mut self) -> Option<Waker> {
        if self.is_stopped && self.may_read() {
            self.is_stopped = false;
            self.reader.take()
        } else {
            None
        }
    }
}

impl Flow {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                held_bytes: 0,
                waiting: 0,
                is_cut: false,
                moved_at: Instant::now(),
                is_stopped: false,
                reader: None,
                writer: None,
            }),
        })
    }

    /// Ends the connection at its next read or write, whatever it waits for.
    pub(super) fn cut(&self) {
        let mut state = self.lock();
        state.is_cut = true;
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// How far windows are opened from now on.
    pub(super) fn window(&self) -> u32 {
        if self.lock().held_bytes > HELD_BYTES_MAX / 2 {
            WINDOW_BYTES_MIN
        } else {
            WINDOW_BYTES_MAX
        }
    }

    /// For how long no channel moved a byte.
    pub(super) fn idle(&self) -> Duration {
        self.lock().moved_at.elapsed()
    }

    /// Notes that a channel moved a byte.
    pub(super) fn moved(&self) {
        self.lock().moved_at = Instant::now();
    }

    /// Does what may have to wait for a window of the client's.
    pub(super) async fn writing<T>(&self, write: impl Future<Output = T>) -> T {
        let mut write = std::pin::pin!(write);
        let at_once = tokio::select! {
            biased;
            done = &mut write => Some(done),
            () = std::future::ready(()) => None,
        };
        let done = match at_once {
            Some(done) => done,
            None => {
                let _waiting = Waiting::new(self);
                write.await
            }
        };
        self.moved();
        done
    }

    /// Notes that so much more is held.
    pub(super) fn hold(&self, bytes: usize) {
        let mut state = self.lock();
        state.held_bytes += bytes;
        state.moved_at = Instant::now();
    }

    /// Notes that so much is held no more.
    pub(super) fn give_back(&self, bytes: usize) {
        let mut state = self.lock();
        state.held_bytes -= bytes;
        let reader = state.resumed();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        self.lock().held_bytes == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting<'a>(&'a Flow);

impl<'a> Waiting<'a> {
    fn new(flow: &'a Flow) -> Self {
        let mut state = flow.lock();
        state.waiting += 1;
        let reader = state.resumed();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
        Self(flow)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

/// A connection whose reading stops while too much is held.
#[derive(Debug)]
pub(super) struct Gate<T> {
    inner: BufReader<T>,
    flow: Arc<Flow>,
}

impl<T: AsyncRead> Gate<T> {
    pub(super) fn new(inner: T, flow: Arc<Flow>) -> Self {
        Self {
            inner: BufReader::with_capacity(READ_BYTES, inner),
            flow,
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the connection was cut off",
    )
}

impl<T: AsyncRead + Unpin> AsyncRead for Gate<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let may_read = {
            let mut state = self.flow.lock();
            if state.is_cut {
                return Poll::Ready(Err(cut_off()));
            }
            // also while the socket is waited for: a cut must be noticed
            if !state
                .reader
                .as_ref()
                .is_some_and(|reader| reader.will_wake(cx.waker()))
            {
                state.reader = Some(cx.waker().clone());
            }
            state.is_stopped = !state.may_read();
            !state.is_stopped
        };
        if may_read {
            Pin::new(&mut self.inner).poll_read(cx, buffer)
        } else {
            Poll::Pending
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        {
            let mut state = self.flow.lock();
            if state.is_cut {
                return Poll::Ready(Err(cut_off()));
            }
            if !state
                .writer
                .as_ref()
                .is_some_and(|writer| writer.will_wake(cx.waker()))
            {
                state.writer = Some(cx.waker().clone());
            }
        }
        Pin::new(self.inner.get_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.inner.get_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        sync::Notify,
    };

    use super::*;
    use crate::ssh::inbox::{Inbox, Item};

    /// Whether a byte can be read without waiting.
    async fn reads(gate: &mut Gate<tokio::io::DuplexStream>) -> bool {
        let mut byte = [0];
        tokio::select! {
            biased;
            read = gate.read(&mut byte) => read.is_ok_and(|count| count == 1),
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn reading_stops_while_too_much_is_held_and_goes_on_as_it_is_taken() {
        let flow = Flow::new();
        let (near, mut far) = duplex(1_024);
        let mut gate = Gate::new(near, Arc::clone(&flow));
        far.write_all(&[7; 64]).await.expect("written");
        let inbox = Inbox::new(&flow);
        assert!(reads(&mut gate).await);
        assert_eq!(flow.window(), WINDOW_BYTES_MAX);
        inbox.put(Item::Data(vec![0; HELD_BYTES_MAX + 1]));
        assert_eq!(flow.window(), WINDOW_BYTES_MIN);
        assert!(!reads(&mut gate).await, "too much is held");
        // a writer that waits makes room for what opens its window
        let (waits, stop) = (Notify::new(), Notify::new());
        let writing = flow.writing(async {
            waits.notify_one();
            stop.notified().await;
        });
        let reading = async {
            waits.notified().await;
            tokio::task::yield_now().await;
            assert!(reads(&mut gate).await, "a writer waits");
            inbox.put(Item::Data(vec![0; WAITING_BYTES_MAX]));
            assert!(!reads(&mut gate).await, "more than that isn't held");
            stop.notify_one();
        };
        tokio::join!(writing, reading);
        assert!(matches!(inbox.next().await, Some(Item::Data(_))));
        assert!(!reads(&mut gate).await, "still too much");
        drop(inbox);
        assert!(reads(&mut gate).await, "what nobody took is gone");
        assert_eq!(flow.lock().held_bytes, 0);
    }

    #[tokio::test]
    async fn a_cut_connection_neither_reads_nor_writes_whatever_it_waited_for() {
        let flow = Flow::new();
        let (near, _far) = duplex(16);
        let mut gate = Gate::new(near, Arc::clone(&flow));
        let cutting = async {
            tokio::task::yield_now().await;
            flow.cut();
        };
        let (read, ()) = tokio::join!(gate.read_u8(), cutting);
        assert_eq!(
            read.expect_err("cut").kind(),
            io::ErrorKind::ConnectionAborted
        );
        gate.write_all(b"x").await.expect_err("cut");
    }
}
