//! A program in a rental whose outputs are kept, for a caller that isn't a terminal.
//!
//! # Invariants
//! - Outputs are bounded: what is over is cut and said to be; the program is read to its end all the same.
//! - After its time it is killed, and that is said: by a signal, or by the end of the stream where input is still on its way.

use std::time::Duration;

use shared::link::frame::{self, FRAME_BYTES_MAX, Frame};
use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    time::timeout,
};

use super::told;
use crate::failure::{Failure, Kind, Result};

/// Bytes of each output that are kept.
const KEPT_BYTES_MAX: usize = 64 * 1024;
const SIGKILL: u8 = 9;
/// A killed program's end comes by then.
const END_WITHIN: Duration = Duration::from_secs(10);

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ended {
    /// Its exit code, or 128 and the signal's number; nothing if it was killed and didn't say.
    pub exit_code: Option<i32>,
    /// Whether it was killed for taking too long.
    pub timed_out: bool,
    /// What it wrote; what isn't UTF-8 is replaced.
    pub stdout: String,
    /// What it wrote of errors.
    pub stderr: String,
    /// Whether either was cut.
    pub truncated: bool,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    cut: bool,
}

impl Kept {
    fn take(&mut self, bytes: &[u8]) {
        let room = KEPT_BYTES_MAX.saturating_sub(self.bytes.len());
        self.cut |= bytes.len() > room;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Runs until it has ended, or has taken `within`.
///
/// # Errors
/// The stream broke before it ended.
pub async fn run<S>(socket: S, input: Vec<u8>, within: Duration) -> Result<Ended>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut from, mut to) = split(socket);
    let (mut out, mut err) = (Kept::default(), Kept::default());
    let mut is_fed = false;
    let talk = async {
        let feed = async {
            // a program that reads nothing of it may end all the same
            for piece in input.chunks(FRAME_BYTES_MAX).chain([&[][..]]) {
                frame::write(&mut to, &Frame::Stdin(piece.to_vec())).await?;
            }
            is_fed = true;
            std::future::pending::<std::io::Result<()>>().await
        };
        tokio::select! {
            Err(error) = feed => Err(broken(&error.to_string())),
            ended = listen(&mut from, &mut out, &mut err) => ended,
        }
    };
    let ended = timeout(within, talk).await;
    let (exit_code, timed_out) = match ended {
        Ok(ended) => (Some(ended?), false),
        // a signal would come behind half a frame; without a stream it is hung up
        Err(_) if !is_fed => (None, true),
        Err(_) => {
            let killed = frame::write(&mut to, &Frame::Signal(SIGKILL)).await;
            killed.map_err(|error| broken(&error.to_string()))?;
            let rest = timeout(END_WITHIN, listen(&mut from, &mut out, &mut err)).await;
            (rest.ok().and_then(Result::ok), true)
        }
    };
    Ok(Ended {
        exit_code,
        timed_out,
        stdout: out.text(),
        stderr: err.text(),
        truncated: out.cut || err.cut,
    })
}

async fn listen(
    from: &mut (impl AsyncRead + Unpin),
    out: &mut Kept,
    err: &mut Kept,
) -> Result<i32> {
    loop {
        match frame::read(from).await {
            Ok(Some(Frame::Stdout(bytes))) => out.take(&bytes),
            Ok(Some(Frame::Stderr(bytes))) => err.take(&bytes),
            Ok(Some(Frame::Exit(exit))) => return Ok(exit.status()),
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

#[cfg(test)]
mod tests {
    use shared::link::frame::Exit;
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn outputs_are_kept_up_to_a_bound_and_input_is_passed_on() {
        let (ours, mut theirs) = duplex(256 * 1024);
        let program = tokio::spawn(async move {
            let mut heard = Vec::new();
            while let Some(Frame::Stdin(bytes)) = frame::read(&mut theirs).await.unwrap() {
                if bytes.is_empty() {
                    break;
                }
                heard.extend(bytes);
            }
            for _ in 0..3 {
                let long = Frame::Stdout(vec![b'x'; FRAME_BYTES_MAX]);
                frame::write(&mut theirs, &long).await.unwrap();
            }
            let end = Frame::Exit(Exit::Code(4));
            frame::write(&mut theirs, &end).await.unwrap();
            heard
        });
        let within = Duration::from_secs(60);
        let ended = run(ours, b"question".to_vec(), within).await.unwrap();
        assert_eq!((ended.exit_code, ended.timed_out), (Some(4), false));
        assert_eq!(
            (ended.stdout.len(), ended.truncated),
            (KEPT_BYTES_MAX, true)
        );
        assert_eq!(program.await.unwrap(), b"question");
    }

    #[tokio::test]
    async fn what_reads_nothing_of_its_input_is_left_after_its_time() {
        let (ours, theirs) = duplex(1024);
        let input = vec![b'x'; FRAME_BYTES_MAX];
        let ended = run(ours, input, Duration::from_millis(50)).await.unwrap();
        assert_eq!((ended.exit_code, ended.timed_out), (None, true));
        drop(theirs);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed() {
        let (ours, mut theirs) = duplex(1024);
        let program = tokio::spawn(async move {
            loop {
                match frame::read(&mut theirs).await.unwrap() {
                    Some(Frame::Signal(number)) => {
                        let end = Frame::Exit(Exit::Signal(i32::from(number)));
                        return frame::write(&mut theirs, &end).await.unwrap();
                    }
                    Some(_) => {}
                    None => return,
                }
            }
        });
        let ended = run(ours, Vec::new(), Duration::from_millis(50))
            .await
            .unwrap();
        assert_eq!((ended.exit_code, ended.timed_out), (Some(137), true));
        program.await.unwrap();
    }
}
