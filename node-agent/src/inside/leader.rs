//! How a program comes to lead a session of its own: this program is started again, becomes a session's leader, takes its input as its
//! terminal if it has one, and then turns into the program.
//!
//! # Invariants
//! - It dies with whoever started it: a program isn't left behind by one that was killed.
//! - The loader's variables don't reach this program, only the one that it turns into: an image's preloaded library may not fit ours.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::PathBuf,
    process::Command,
};

use rustix::process::{Signal, getppid, ioctl_tiocsctty, set_parent_process_death_signal, setsid};

/// The word that asks for it.
pub(super) const MODE: &str = "leader";
/// Variables of the container that the loader would heed travel under a name with this in front.
pub const LD_PREFIX: &str = "RAMARKET_INSIDE_";
/// As shells say that a program was there and couldn't be run.
pub(super) const NOT_STARTED: u8 = 126;

/// How this program is started again: through the loader that it was itself started through.
pub(super) fn of_this_program() -> Vec<OsString> {
    let exe = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let is_loader = exe
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"ld-"));
    let mut words = vec![exe.clone().into_os_string()];
    if is_loader {
        words.push("--library-path".into());
        words.push(exe.parent().map(Into::into).unwrap_or_default());
        words.extend(std::env::args_os().next());
    }
    words.push(MODE.into());
    words
}

/// What follows [`MODE`]: whose child it is, whether its input is a terminal, the program, its name and its words.
pub(super) fn words(terminal: bool, planned: &super::command::Planned) -> Vec<OsString> {
    let mut words = vec![
        std::process::id().to_string().into(),
        if terminal { "terminal" } else { "pipes" }.into(),
        planned.program.clone().into_os_string(),
        planned.name.clone(),
    ];
    words.extend(planned.words.iter().cloned());
    words
}

/// Turns this process into the program; returns why it couldn't.
pub(super) fn become_program(words: impl Iterator<Item = OsString>) -> io::Error {
    match prepared(words) {
        Ok(mut command) => command.exec(),
        Err(error) => error,
    }
}

fn prepared(mut words: impl Iterator<Item = OsString>) -> io::Result<Command> {
    let mut next = || {
        words
            .next()
            .ok_or_else(|| io::Error::other("a word is missing"))
    };
    let (parent, terminal, program, name) = (next()?, next()?, next()?, next()?);
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if OsStr::new(&now.to_string()) != parent {
        return Err(io::Error::other("whoever asked for the program is gone"));
    }
    setsid()?;
    if terminal == "terminal" {
        ioctl_tiocsctty(rustix::stdio::stdin())?;
    }
    let mut command = Command::new(program);
    command.arg0(name).args(words);
    for (name, value) in std::env::vars_os() {
        if let Some(own) = name.as_bytes().strip_prefix(LD_PREFIX.as_bytes()) {
            command.env_remove(&name).env(OsStr::from_bytes(own), value);
        }
    }
    Ok(command)
}

/// Under which name a variable of the program is given to the leader.
pub(super) fn disguised(name: &OsStr) -> OsString {
    let mut disguised = OsString::new();
    if name.as_bytes().starts_with(b"LD_") {
        disguised.push(LD_PREFIX);
    }
    disguised.push(name);
    disguised
}
