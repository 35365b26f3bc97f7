//! A program on a stream: frames to it and from it, how it ended as the last one.
//!
//! # Invariants
//! - One chunk of each output is in hand, and a few of the input: what isn't taken waits in the program's pipes, and then it waits.
//! - The program's own output is complete before its end is told. What it left running may hold its pipes: that is waited for no longer
//!   than it is silent for [`QUIET`].
//! - When the stream ends before the program does, the program is hung up.

use std::{io, time::Duration};

use futures_util::future::try_join_all;
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
const INPUT_CHUNKS_MAX: usize = 4;
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
    mut reader: impl AsyncRead + Unpin,
    chunks: mpsc::Sender<Vec<u8>>,
    controls: &Controls,
) -> io::Error {
    let mut chunks = Some(chunks);
    loop {
        match frame::read(&mut reader).await {
            Ok(Some(Frame::Stdin(chunk))) if chunk.is_empty() => chunks = None,
            Ok(Some(Frame::Stdin(chunk))) => {
                if let Some(chunks) = &chunks {
                    // fails when the program has closed its input
                    chunks.send(chunk).await.ok();
                }
            }
            Ok(Some(Frame::Resize(size))) => controls.resize(size),
            Ok(Some(Frame::Signal(number))) => controls.signal(number),
            Ok(Some(Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_))) => {
                return io::Error::new(io::ErrorKind::InvalidData, "a program's frame came to it");
            }
            Ok(None) => return io::ErrorKind::BrokenPipe.into(),
            Err(error) => return error,
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
