//! A program in a rental: our input to it, its outputs to us, and how it ended.
//!
//! # Invariants
//! - The terminal is as it was afterwards, on every way out: the mode is a guard's, and signals are heard before it is set.
//! - With a terminal keys are bytes, Ctrl-C too; without one, signals are passed on.
//! - A signal goes before the input that waits. One that can't be handed over, or a second one, ends this process.

use std::{
    convert::Infallible,
    future::pending,
    io::{Read as _, Write as _},
    thread,
};

use shared::link::frame::{self, Exit, FRAME_BYTES_MAX, Frame};
use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::told;
use crate::{
    failure::{Failure, Kind, Result},
    signals::{Heard, Signals},
    terminal::{self, Mode},
};

/// Pieces of input that wait to be sent.
const INPUT_QUEUE: usize = 8;

/// What goes before input: a frame, and the signal that it tells of.
type Urgent = (Frame, Option<Heard>);

/// Runs until the program has ended; its exit code.
///
/// # Errors
/// The stream broke before it ended: whether it goes on there isn't known.
pub async fn run<S>(socket: S, interactive: bool, tty: bool) -> Result<u8>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let signals = Signals::hear()?;
    let _mode = tty.then(Mode::raw).transpose()?;
    let (mut from, to) = split(socket);
    let (input, waiting) = mpsc::channel(INPUT_QUEUE);
    let (urgent, overtaking) = mpsc::channel(1);
    if interactive {
        read_input(input);
    } else {
        // nothing comes: what reads its input ends
        drop(input.send(Frame::Stdin(Vec::new())).await);
    }
    let sending = tokio::spawn(send(to, waiting, overtaking));
    let ended = tokio::select! {
        ended = listen(&mut from) => ended,
        never = pass_signals_on(signals, urgent, tty) => match never {},
    };
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

async fn send(
    mut to: impl AsyncWrite + Unpin,
    mut input: mpsc::Receiver<Frame>,
    mut urgent: mpsc::Receiver<Urgent>,
) {
    loop {
        let (frame, heard) = tokio::select! {
            biased;
            Some(urgent) = urgent.recv() => urgent,
            Some(frame) = input.recv() => (frame, None),
            else => return,
        };
        // whoever listens hears that it broke
        if frame::write(&mut to, &frame).await.is_err() {
            return;
        }
        if let Some(heard) = heard {
            heard.take();
        }
    }
}

/// A signal to us becomes one there; with a terminal, the window's size as well.
async fn pass_signals_on(
    mut signals: Signals,
    urgent: mpsc::Sender<Urgent>,
    tty: bool,
) -> Infallible {
    let window = tty.then(|| signal(SignalKind::window_change()).ok());
    let mut window = window.flatten();
    loop {
        let passed = tokio::select! {
            () = changed(&mut window) => match terminal::size() {
                Some(size) => (Frame::Resize(size), None),
                None => continue,
            },
            heard = signals.next() => (Frame::Signal(heard.number), Some(heard)),
        };
        if urgent.send(passed).await.is_err() {
            return pending().await;
        }
    }
}

async fn changed(window: &mut Option<Signal>) {
    match window {
        Some(window) => drop(window.recv().await),
        None => pending().await,
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
    async fn a_signal_goes_before_the_input_that_waits() {
        let (ours, mut theirs) = duplex(64 * 1024);
        let (input, waiting) = mpsc::channel(INPUT_QUEUE);
        let (urgent, overtaking) = mpsc::channel(1);
        let typed = Frame::Stdin(b"typed".to_vec());
        input.send(typed.clone()).await.unwrap();
        urgent.send((Frame::Signal(2), None)).await.unwrap();
        drop((input, urgent));
        send(ours, waiting, overtaking).await;
        for expected in [Some(Frame::Signal(2)), Some(typed), None] {
            assert_eq!(frame::read(&mut theirs).await.unwrap(), expected);
        }
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
