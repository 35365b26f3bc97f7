//! A program that was started for a stream: its input and outputs, its terminal, its end.
//!
//! # Invariants
//! - It leads a session and a process group of its own, and signals go to that group, or to whoever has its terminal.
//! - [`Controls::hang_up`] returns when it is over: asked by SIGHUP, killed [`HANG_UP_GRACE`] later.

use std::{
    fmt, io,
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process_group},
    termios::tcgetpgrp,
};
use shared::link::{
    frame::Exit,
    open::{Output, Size},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    process::{Child, Command},
    time::timeout,
};

use super::{
    Place,
    command::Planned,
    leader,
    terminal::{self, Pair},
};

/// From SIGHUP to SIGKILL.
const HANG_UP_GRACE: Duration = Duration::from_secs(2);

type Input = Box<dyn AsyncWrite + Send + Unpin>;
type Reading = Box<dyn AsyncRead + Send + Unpin>;

/// A program that runs.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) input: Input,
    pub(super) outputs: Vec<(Output, Reading)>,
    pub(super) controls: Controls,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("controls", &self.controls)
            .finish_non_exhaustive()
    }
}

/// What is done to a program that runs.
#[derive(Debug)]
pub(super) struct Controls {
    group: Pid,
    terminal: Option<OwnedFd>,
}

/// Starts it, with a terminal of a size or with pipes.
///
/// # Errors
/// It can't be started, in words for whoever asked.
pub(super) fn start(
    planned: &Planned,
    size: Option<Size>,
    place: &Place,
) -> Result<Running, String> {
    let name = planned.name.to_string_lossy().into_owned();
    launch(planned, size, place).map_err(|error| format!("{name} can't be started: {error}"))
}

fn launch(planned: &Planned, size: Option<Size>, place: &Place) -> io::Result<Running> {
    let pair = size.map(terminal::pair).transpose()?;
    let mut command = command(planned, pair.is_some(), place)?;
    command.env_clear().current_dir(&planned.folder);
    match &pair {
        Some(Pair { theirs, .. }) => {
            command
                .stdin(Stdio::from(theirs.try_clone()?))
                .stdout(Stdio::from(theirs.try_clone()?))
                .stderr(Stdio::from(theirs.try_clone()?));
        }
        None => {
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        }
    }
    for (name, value) in &planned.env {
        match place.leader {
            Some(_) => command.env(leader::disguised(name), value),
            None => command.env(name, value),
        };
    }
    let child = command.spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let group = id.and_then(Pid::from_raw);
    let group = group.ok_or_else(|| io::Error::other("it ended at once"))?;
    attached(child, group, pair)
}

fn command(planned: &Planned, terminal: bool, place: &Place) -> io::Result<Command> {
    let Some(leader) = &place.leader else {
        let mut command = Command::new(&planned.program);
        command.arg0(&planned.name).args(&planned.words);
        command.process_group(0);
        return Ok(command);
    };
    let missing = || io::Error::other("this program can't be found");
    let (first, rest) = leader.split_first().ok_or_else(missing)?;
    let mut command = Command::new(first);
    command.args(rest).args(leader::words(terminal, planned));
    Ok(command)
}

fn attached(mut child: Child, group: Pid, pair: Option<Pair>) -> io::Result<Running> {
    let (input, outputs, terminal): (Input, Vec<(Output, Reading)>, _) = match pair {
        Some(Pair { ours, .. }) => {
            let terminal = rustix::io::dup(&ours)?;
            let (reader, writer) = tokio::io::split(ours);
            let outputs: Vec<(Output, Reading)> = vec![(Output::Stdout, Box::new(reader))];
            (Box::new(writer), outputs, Some(terminal))
        }
        None => {
            let missing = || io::Error::other("a pipe is missing");
            let stdin = child.stdin.take().ok_or_else(missing)?;
            let stdout = child.stdout.take().ok_or_else(missing)?;
            let stderr = child.stderr.take().ok_or_else(missing)?;
            let outputs: Vec<(Output, Reading)> = vec![
                (Output::Stdout, Box::new(stdout)),
                (Output::Stderr, Box::new(stderr)),
            ];
            (Box::new(stdin), outputs, None)
        }
    };
    Ok(Running {
        child,
        input,
        outputs,
        controls: Controls { group, terminal },
    })
}

impl Controls {
    pub(super) const fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// What has no terminal has no size.
    pub(super) fn resize(&self, size: Size) {
        if let Some(terminal) = &self.terminal {
            // a terminal that is gone needs no size
            drop(terminal::resize(terminal, size));
        }
    }

    /// Sends a signal by its number; a number that is none is ignored, as a program that has ended ignores all of them.
    pub(super) fn signal(&self, number: u8) {
        if let Some(signal) = Signal::from_named_raw(i32::from(number)) {
            let holder = self.terminal.as_ref().and_then(|fd| tcgetpgrp(fd).ok());
            kill_process_group(holder.unwrap_or(self.group), signal).ok();
        }
    }

    /// Ends the program and what it started in its group.
    pub(super) async fn hang_up(self, child: &mut Child) {
        let Self { group, terminal } = self;
        // the kernel tells whoever has the terminal
        drop(terminal);
        for signal in [Signal::HUP, Signal::CONT] {
            kill_process_group(group, signal).ok();
        }
        let asked = timeout(HANG_UP_GRACE, child.wait()).await;
        // those of the group that didn't listen; while one of them lives, the number is nobody else's
        kill_process_group(group, Signal::KILL).ok();
        if asked.is_err() {
            drop(child.wait().await);
        }
    }
}

/// How it ended.
pub(super) fn exit(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }
}
