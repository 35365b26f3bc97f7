//! `ramarket-inside`: what serves streams from within a rental's container.
//!
//! The helper starts it there by `docker exec`, as the container's own user, with a session of [`shared::link`] on its standard input and
//! output. Each stream asks for a program, for files (SFTP) or for a TCP connection, made with the rental's own rights and nothing else.
//!
//! # Invariants
//! - It runs in any image: it is started through a loader that is brought along, and needs no file of the image.
//! - Nothing is buffered without bound: a program whose output nobody reads is stopped by its pipe or terminal.
//! - When the session ends, so does what was started by it: programs are hung up and killed, and this program goes away.

mod command;
mod dial;
mod exec;
mod fd;
mod leader;
mod process;
mod sftp;
mod terminal;
mod user;

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use shared::link::{
    open::{self, Open, Opened, code},
    session::{Role, Session, Started, Stream},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter};
use tokio_util::task::TaskTracker;

pub use self::leader::LD_PREFIX;
use self::user::User;

/// The program's first word, before the session: what an engine says in its place is why it couldn't be started.
pub const GREETING: &[u8] = b"ramarket-inside 1\n";

/// How long streams may take to end after the session.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Threads for files and names; each SFTP stream takes one.
const THREADS_MAX: usize = 80;
const STACK_BYTES: usize = 512 * 1_024;
/// In hand of the session, for each direction.
const BUFFER_BYTES: usize = 64 * 1_024;

/// Where streams are served.
#[derive(Debug)]
pub struct Place {
    /// How a program is started so that it leads a session of its own; `None`: as a child of this process's own session, without a
    /// terminal.
    leader: Option<Vec<OsString>>,
    user: User,
}

impl Place {
    /// This process's own container.
    #[must_use]
    pub fn here() -> Self {
        Self {
            leader: Some(leader::of_this_program()),
            user: User::of_this_process(),
        }
    }

    /// For tests of other parts: whatever process this is, which can't start itself as a leader.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn in_process() -> Self {
        Self {
            leader: None,
            user: User::of_this_process(),
        }
    }
}

/// Serves on standard input and output until they end. As `leader …`, becomes another program; as `loaded`, prints what it was loaded from.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let done = match words.next() {
        None => serve_stdio(),
        Some(word) if word == OsStr::new(leader::MODE) => Err(leader::become_program(words)),
        Some(word) if word == "loaded" => print_maps(),
        Some(_) => Err(io::Error::other(
            "it is started by ramarket-helper, without arguments",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_listens = writeln!(io::stderr(), "ramarket-inside: {error}");
            ExitCode::from(leader::NOT_STARTED)
        }
    }
}

/// So that the helper knows which libraries to bring along.
fn print_maps() -> io::Result<()> {
    let maps = std::fs::read(Path::new("/proc/self/maps"))?;
    io::stdout().lock().write_all(&maps)
}

fn serve_stdio() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS_MAX)
        .thread_stack_size(STACK_BYTES)
        .build()?;
    let served = runtime.block_on(async {
        let input = fd::Polled::new(rustix::io::dup(rustix::stdio::stdin())?)?;
        let output = fd::Polled::new(rustix::io::dup(rustix::stdio::stdout())?)?;
        // so that a frame and its head aren't two calls of the kernel's
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
        output.write_all(GREETING).await?;
        output.flush().await?;
        serve(tokio::io::join(input, output), Arc::new(Place::here())).await;
        Ok(())
    });
    // a thread may hang in a file system
    runtime.shutdown_background();
    served
}

/// Serves the streams of a session over `connection` until it ends.
pub async fn serve<T>(connection: T, place: Arc<Place>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Started {
        session,
        mut accepted,
        driver,
    } = Session::start(connection, Role::Server);
    let streams = TaskTracker::new();
    {
        let mut driver = std::pin::pin!(driver);
        loop {
            tokio::select! {
                _ended = &mut driver => break,
                Some(stream) = accepted.recv() => {
                    let place = Arc::clone(&place);
                    streams.spawn(async move {
                        // a stream that broke is over: nobody is there to be told
                        drop(Box::pin(serve_stream(stream, &place)).await);
                    });
                }
            }
        }
    }
    // with the driver every stream has ended
    drop(session);
    streams.close();
    // whoever is late is left to the end of this process
    drop(tokio::time::timeout(END_TIMEOUT, streams.wait()).await);
}

async fn serve_stream(mut stream: Stream, place: &Place) -> io::Result<()> {
    match open::receive(&mut stream).await? {
        Open::Exec { exec, .. } => exec::serve(stream, &exec, place).await,
        Open::Sftp { .. } => {
            open::send(&mut stream, &Opened::Ready {}).await?;
            sftp::serve(stream, place.user.home.clone()).await
        }
        Open::Dial { host, port, .. } => dial::serve(stream, &host, port).await,
        Open::Control {} | Open::Logs { .. } | Open::Metrics { .. } => {
            let refused = Opened::refused(code::NOT_SUPPORTED, "the rental doesn't serve this");
            open::send(&mut stream, &refused).await
        }
    }
}

#[cfg(test)]
mod tests;
