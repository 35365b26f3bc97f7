//! A pseudo terminal: the end that a program gets, and the end that is served.

use std::{io, os::fd::OwnedFd};

use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize},
};
use shared::link::open::Size;

use super::fd::Polled;

/// Both ends.
#[derive(Debug)]
pub(super) struct Pair {
    /// What is served.
    pub(super) ours: Polled,
    /// The program's input, output and error output.
    pub(super) theirs: OwnedFd,
}

/// A new terminal.
///
/// # Errors
/// The container has no terminals.
pub(super) fn pair(size: Size) -> io::Result<Pair> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    // by the other end, not by name: what an image keeps under /dev doesn't matter
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    let mut modes = tcgetattr(&theirs)?;
    // erasing a character erases all of its bytes
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    resize(&ours, size)?;
    Ok(Pair {
        ours: Polled::new(ours)?,
        theirs,
    })
}

/// Tells the terminal, and so the program, its size.
///
/// # Errors
/// The terminal is gone.
pub(super) fn resize(terminal: impl std::os::fd::AsFd, size: Size) -> io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}
