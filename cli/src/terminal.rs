//! The terminal in front of which somebody sits: questions, passphrases, and raw mode for programs elsewhere.
//!
//! # Invariants
//! - Whatever mode is set is undone on every way out: by its guard, in a panic as well, or by the signal that ends this process.
//!   While a mode is set, no key ends this process: Ctrl-C is a byte.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    mem,
    os::fd::AsFd as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcdrain, tcgetattr, tcgetwinsize,
    tcsetattr,
};
use shared::{link::open::Size, secret::Secret};

use crate::{
    failure::{Failure, Result},
    signals,
};

const ANSWER_BYTES_MAX: usize = 4096;
const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: [u8; 2] = [0x08, 0x7f];

/// The mode before the one that is set, for who ends this process.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether there is somebody to ask.
pub fn is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A mode of the terminal at standard input; the one before comes back when this is dropped.
#[derive(Debug)]
pub struct Mode {
    before: Termios,
}

impl Mode {
    /// Nothing is echoed, every byte comes at once.
    ///
    /// # Errors
    /// Standard input is no terminal.
    fn silent() -> Result<Self> {
        Self::set(|mode| {
            mode.local_modes
                .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
            mode.special_codes[SpecialCodeIndex::VMIN] = 1;
            mode.special_codes[SpecialCodeIndex::VTIME] = 0;
        })
    }

    /// Every byte is passed on as it is, both ways.
    ///
    /// # Errors
    /// Standard input is no terminal.
    pub fn raw() -> Result<Self> {
        Self::set(Termios::make_raw)
    }

    fn set(change: impl FnOnce(&mut Termios)) -> Result<Self> {
        signals::watch()?;
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd()).map_err(unusable)?;
        let mut mode = before.clone();
        change(&mut mode);
        // may wait for a terminal that is held up, and so comes before the lock
        tcdrain(stdin.as_fd()).map_err(unusable)?;
        let mut kept = kept();
        tcsetattr(stdin.as_fd(), OptionalActions::Now, &mode).map_err(unusable)?;
        *kept = Some(before.clone());
        Ok(Self { before })
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        // a terminal that has gone needs none
        let _restored = tcsetattr(io::stdin().as_fd(), OptionalActions::Drain, &self.before);
        *kept() = None;
    }
}

fn kept() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Restores the terminal for a process that ends now: no mode is set any more.
pub fn restore_for_good() {
    let kept = kept();
    if let Some(before) = kept.as_ref() {
        // at once: what is still to be shown may never be
        let _restored = tcsetattr(io::stdin().as_fd(), OptionalActions::Now, before);
    }
    // another thread that wants a mode waits for the end
    mem::forget(kept);
}

/// The size of the terminal at standard input; nothing if there is none.
pub fn size() -> Option<Size> {
    let size = tcgetwinsize(io::stdin().as_fd()).ok()?;
    let known = size.ws_col > 0 && size.ws_row > 0;
    known.then_some(Size {
        columns: size.ws_col,
        rows: size.ws_row,
    })
}

/// Asks for something that isn't shown while it is typed.
///
/// # Errors
/// No terminal, Ctrl-C, or nothing was typed.
pub fn secret(asked: &str) -> Result<Secret<String>> {
    say(asked)?;
    let typed = {
        let _mode = Mode::silent()?;
        line()
    };
    say("\n")?;
    let typed = typed?;
    if typed.is_empty() {
        return Err(Failure::usage("nothing was typed"));
    }
    String::from_utf8(typed)
        .map(Secret::new)
        .map_err(|_| Failure::usage("what was typed is no text"))
}

/// Asks a question that only `y` or `yes` affirms.
///
/// # Errors
/// No terminal, or Ctrl-C.
pub fn confirm(question: &str) -> Result<bool> {
    say(&format!("{question} [y/N] "))?;
    let typed = line()?;
    let typed = String::from_utf8_lossy(&typed).trim().to_ascii_lowercase();
    Ok(matches!(typed.as_str(), "y" | "yes"))
}

fn say(text: &str) -> Result<()> {
    let mut out = io::stderr().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(unusable)
}

/// Bytes up to the end of a line; read one by one, so that nothing of what follows is taken.
fn line() -> Result<Vec<u8>> {
    let stdin = io::stdin();
    let mut input = File::from(stdin.as_fd().try_clone_to_owned().map_err(unusable)?);
    let mut typed = Vec::new();
    let mut byte = [0];
    loop {
        if input.read(&mut byte).map_err(unusable)? == 0 {
            return Ok(typed);
        }
        match byte[0] {
            b'\n' | b'\r' | END => return Ok(typed),
            INTERRUPT => return Err(Failure::failed("interrupted")),
            byte if BACKSPACE.contains(&byte) => drop(typed.pop()),
            _ if typed.len() >= ANSWER_BYTES_MAX => {
                return Err(Failure::usage("what was typed is too long"));
            }
            byte => typed.push(byte),
        }
    }
}

fn unusable(error: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("the terminal can't be used: {error}"))
}
