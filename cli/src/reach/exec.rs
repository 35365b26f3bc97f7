//! A program in a rental: our input to it, its outputs to us, and how it ended.
//!
//! # Invariants
//! - The terminal is as it was afterwards, on every way out: the mode is a guard's, and signals end the loop, not the process.
//! - With a terminal keys are bytes, Ctrl-C too; without one, signals are passed on.

use std::{
    io::{Read as _, Write as _},
    thread,
};

use shared::link::frame::{self, Exit, FRAME_BYTES_MAX, Frame};
use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::told;
use crate::{
    failure::{Failure, Kind, Result},
    terminal::{self, Mode},
};

/// Pieces of input that wait to be sent.
const INPUT_QUEUE: usize = 8;
const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;

/// Runs until the program has ended; its exit code.
///
/// # Errors
/// The stream broke before it ended: whether it goes on there isn't known.
pub async fn run<S>(socket: S, interactive: bool, tty: bool) -> Result<u8>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let _mode = tty.then(Mode::raw).transpose()?;
    let (mut from, to) = split(socket);
    let (frames, queue) = mpsc::channel(INPUT_QUEUE);
    if interactive {
        read_input(frames.clone());
    } else {
        // nothing comes: what reads its input ends
        drop(frames.send(Frame::Stdin(Vec::new())).await);
    }
    let sending = tokio::spawn(send(to, queue));
    let signals = tokio::spawn(pass_signals_on(frames, tty));
    let ended = listen(&mut from).await;
    signals.abort();
    sending.abort();
    ended
}

async fn listen(from: &mut (impl AsyncRead + Unpin)) -> Result<u8> {
    loop {
        match frame::read(from).await {
            Ok(Some(Frame::Stdout(bytes))) => write_out(&bytes, false)?,
            Ok(Some(Frame::Stderr(bytes))) => write_out(&bytes, true)?,
            Ok(Some(Frame::Exit(exit))) => return Ok(status(exit)),
            Ok(Some(_)) => return Err(broken("it sent what only we send")),
            Ok(None) => return Err(broken("it ended without saying how")),
            Err(error) => return Err(told(&error).unwrap_or_else(|| broken(&error.to_string()))),
        }
    }
}

fn broken(why: &str) -> Failure {
    Failure::new(
        Kind::Unreachable,
        format!("the connection to the program is lost ({why}); it may still run there"),
    )
}

/// As shells tell it; what doesn't fit a byte is told as 255.
fn status(exit: Exit) -> u8 {
    u8::try_from(exit.status()).unwrap_or(u8::MAX)
}

fn write_out(bytes: &[u8], is_error: bool) -> Result<()> {
    let written = if is_error {
        let mut out = std::io::stderr().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    };
    written.map_err(|error| Failure::failed(format!("output can't be written: {error}")))
}

/// Reads standard input on a thread of its own: it can't be interrupted, and ends with the process.
fn read_input(frames: mpsc::Sender<Frame>) {
    thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        loop {
            // what can't be read is at its end
            let got = input.read(&mut buffer).unwrap_or(0);
            let sent = frames.blocking_send(Frame::Stdin(buffer[..got].to_vec()));
            if got == 0 || sent.is_err() {
                return;
            }
        }
    });
}

async fn send(mut to: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<Frame>) {
    while let Some(frame) = queue.recv().await {
        // whoever listens hears that it broke
        if frame::write(&mut to, &frame).await.is_err() {
            return;
        }
    }
}

/// Signals to us become signals there; with a terminal, the window's size as well.
async fn pass_signals_on(frames: mpsc::Sender<Frame>, tty: bool) {
    let on = |kind: SignalKind| signal(kind).ok();
    let (Some(mut window), Some(mut interrupt), Some(mut terminate), Some(mut hang_up)) = (
        on(SignalKind::window_change()),
        on(SignalKind::interrupt()),
        on(SignalKind::terminate()),
        on(SignalKind::hangup()),
    ) else {
        return;
    };
    loop {
        let frame = tokio::select! {
            _ = window.recv() => match terminal::size() {
                Some(size) if tty => Frame::Resize(size),
                _ => continue,
            },
            _ = interrupt.recv() => Frame::Signal(SIGINT),
            _ = terminate.recv() => Frame::Signal(SIGTERM),
            _ = hang_up.recv() => Frame::Signal(SIGHUP),
        };
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    /// How a program ends that sends `frames` once its input is over.
    async fn ended(frames: &[Frame]) -> Result<u8> {
        let (ours, mut theirs) = duplex(64 * 1024);
        let frames = frames.to_vec();
        let program = tokio::spawn(async move {
            let said = frame::read(&mut theirs).await.unwrap();
            assert_eq!(said, Some(Frame::Stdin(Vec::new())), "its input is over");
            for frame in &frames {
                frame::write(&mut theirs, frame).await.unwrap();
            }
            theirs.shutdown().await.unwrap();
        });
        let ended = run(ours, false, false).await;
        program.await.unwrap();
        ended
    }

    #[tokio::test]
    async fn a_program_ends_as_it_says_or_is_lost() {
        for (exit, code) in [
            (Exit::Code(0), 0),
            (Exit::Code(3), 3),
            (Exit::Signal(9), 137),
            (Exit::Code(-1), 255),
        ] {
            assert_eq!(ended(&[Frame::Exit(exit)]).await, Ok(code));
        }
        let lost = ended(&[Frame::Stdout(Vec::new())]).await.unwrap_err();
        assert_eq!(lost.kind, Kind::Unreachable);
        let wrong = ended(&[Frame::Signal(9)]).await.unwrap_err();
        assert_eq!(wrong.kind, Kind::Unreachable);
    }
}
