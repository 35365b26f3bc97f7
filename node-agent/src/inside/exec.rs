//! A program on a stream: frames to it and from it, how it ended as the last one.
//!
//! # Invariants
//! - One chunk of each output is in hand, and a few of the input: what isn't taken waits in the program's pipes, and then it waits.
//!   While its input is full one more chunk is held, so that a signal, a new size or the stream's end behind it still arrive.
//! - The program's own output is complete before its end is told. What it left running may hold its pipes: that is waited for no longer
//!   than it is silent for [`QUIET`].
//! - When the stream ends before the program does, the program is hung up.

use std::{io, pin::pin, time::Duration};

use futures_util::{
    future::try_join_all,
    stream::{self, StreamExt as _},
};
use shared::link::{
    frame::{self, FRAME_BYTES_MAX, Frame},
    open::{self, Exec, Opened, Output, code},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{Mutex, mpsc, watch},
};

use super::{
    Place, command,
    process::{self, Controls, Running},
};

/// How long an output may be silent after the program's end before it counts as ended.
const QUIET: Duration = Duration::from_secs(1);
/// Chunks of input that wait for the program.
pub(super) const INPUT_CHUNKS_MAX: usize = 4;
/// What a terminal takes as the end of its input.
const END_OF_INPUT: u8 = 4;

/// Runs it.
///
/// # Errors
/// The stream broke, or isn't kept to.
pub(super) async fn serve<S>(mut stream: S, exec: &Exec, place: &Place) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let started = command::plan(exec, &place.user, std::env::vars_os(), &folder);
    let size = exec.terminal.as_ref().map(|terminal| terminal.size);
    let started = started.and_then(|planned| process::start(&planned, size, place));
    let running = match started {
        Ok(running) => running,
        Err(why) => {
            return open::send(&mut stream, &Opened::refused(code::NOT_STARTED, why)).await;
        }
    };
    let (reader, mut writer) = tokio::io::split(stream);
    if let Err(error) = open::send(&mut writer, &Opened::Ready {}).await {
        let Running {
            mut child,
            controls,
            ..
        } = running;
        controls.hang_up(&mut child).await;
        return Err(error);
    }
    attend(running, reader, writer).await
}

async fn attend<R, W>(running: Running, reader: R, writer: W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Running {
        mut child,
        input,
        outputs,
        controls,
    } = running;
    let writer = Mutex::new(writer);
    let (exited, seen) = watch::channel(false);
    let (chunks, waiting) = mpsc::channel(INPUT_CHUNKS_MAX);
    let ended = {
        let pumps = outputs
            .into_iter()
            .map(|(from, output)| pump(output, from, &writer, seen.clone()));
        let ending = async {
            let status = child.wait().await;
            exited.send_replace(true);
            status
        };
        tokio::select! {
            done = async { tokio::try_join!(ending, try_join_all(pumps)) } => done.map(|(status, _)| status),
            error = listen(reader, chunks, &controls) => Err(error),
            () = feed(input, waiting, controls.has_terminal()) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    match ended {
        Ok(status) => {
            let mut writer = writer.into_inner();
            frame::write(&mut writer, &Frame::Exit(process::exit(status))).await?;
            writer.shutdown().await
        }
        Err(error) => {
            controls.hang_up(&mut child).await;
            Err(error)
        }
    }
}

/// Carries an output until it ends.
async fn pump(
    mut output: impl AsyncRead + Unpin,
    from: Output,
    writer: &Mutex<impl AsyncWrite + Unpin>,
    mut exited: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    loop {
        let silent = async {
            if exited.wait_for(|exited| *exited).await.is_ok() {
                tokio::time::sleep(QUIET).await;
            }
        };
        let count = tokio::select! {
            biased;
            count = output.read(&mut buffer) => count?,
            () = silent => 0,
        };
        if count == 0 {
            return Ok(());
        }
        let chunk = buffer[..count].to_vec();
        let frame = match from {
            Output::Stdout => Frame::Stdout(chunk),
            Output::Stderr => Frame::Stderr(chunk),
        };
        frame::write(&mut *writer.lock().await, &frame).await?;
    }
}

/// Takes frames until the stream ends; returns why it did.
async fn listen(
    reader: impl AsyncRead + Unpin,
    chunks: mpsc::Sender<Vec<u8>>,
    controls: &Controls,
) -> io::Error {
    // a frame that is half read is kept while something else is waited for
    let frames = stream::unfold(reader, |mut reader| async {
        Some((frame::read(&mut reader).await, reader))
    });
    let mut frames = pin!(frames);
    let mut input = Input {
        chunks: Some(chunks),
        held: None,
        ended: false,
    };
    loop {
        let frame = tokio::select! {
            () = input.hand_over(), if input.held.is_some() => continue,
            frame = frames.next() => frame,
        };
        match frame {
            Some(Ok(Some(Frame::Stdin(chunk)))) => input.take(chunk).await,
            Some(Ok(Some(Frame::Resize(size)))) => controls.resize(size),
            Some(Ok(Some(Frame::Signal(number)))) => controls.signal(number),
            Some(Ok(Some(Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_)))) => {
                return io::Error::new(io::ErrorKind::InvalidData, "a program's frame came to it");
            }
            None | Some(Ok(None)) => return io::ErrorKind::BrokenPipe.into(),
            Some(Err(error)) => return error,
        }
    }
}

/// What goes to the program.
struct Input {
    /// `None` after its end, or when the program doesn't take any.
    chunks: Option<mpsc::Sender<Vec<u8>>>,
    /// For which there was no room.
    held: Option<Vec<u8>>,
    /// Whether nothing comes behind what is held.
    ended: bool,
}

impl Input {
    /// Takes a chunk, an empty one as the end. One at a time is held; before the next, the program must take something.
    async fn take(&mut self, chunk: Vec<u8>) {
        if self.ended {
            return;
        }
        if chunk.is_empty() {
            self.ended = true;
            if self.held.is_none() {
                self.chunks = None;
            }
            return;
        }
        if self.held.is_some() {
            self.hand_over().await;
        }
        self.held = self.chunks.is_some().then_some(chunk);
    }

    /// Waits for room for what is held. Given up meanwhile, it is held still.
    async fn hand_over(&mut self) {
        let taken = match &self.chunks {
            Some(chunks) => chunks.reserve().await.is_ok_and(|room| {
                if let Some(chunk) = self.held.take() {
                    room.send(chunk);
                }
                true
            }),
            None => false,
        };
        if !taken || self.ended {
            // the program has closed its input, or has all of it
            (self.chunks, self.held) = (None, None);
        }
    }
}

/// Gives the program its input; never returns, since its end is no end of the program.
async fn feed(
    mut input: Box<dyn AsyncWrite + Send + Unpin>,
    mut chunks: mpsc::Receiver<Vec<u8>>,
    terminal: bool,
) {
    let mut taken = true;
    while taken && let Some(chunk) = chunks.recv().await {
        taken = input.write_all(&chunk).await.is_ok();
    }
    if taken && terminal {
        // a program that is gone needs no end of input
        input.write_all(&[END_OF_INPUT]).await.ok();
    }
    drop((input, chunks));
    std::future::pending::<()>().await;
}
