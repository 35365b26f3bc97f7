//! Where a passphrase comes from: a file, a credential of systemd, or somebody at a terminal.
//!
//! # Invariants
//! - It is never a flag or a variable: others on the machine could read those.
//! - What is typed isn't echoed, and the terminal is as it was afterwards.

use std::path::{Path, PathBuf};

use shared::secret::Secret;

use crate::{
    failure::{Failure, Result},
    private_file, terminal,
};

/// Under `$CREDENTIALS_DIRECTORY`.
const CREDENTIAL: &str = "wallet-passphrase";
/// Fewer characters are guessed from a stolen file.
const CHARS_MIN: usize = 8;

/// Where to get it.
#[derive(Debug, Clone)]
pub enum Passphrase {
    /// It is known.
    Known(Secret<String>),
    /// From this file, `-` for standard input.
    File(PathBuf),
    /// From whoever sits at the terminal.
    Terminal,
    /// There is none.
    None,
}

impl Passphrase {
    /// From the file that was named, else the credential, else the terminal.
    pub fn of(file: Option<PathBuf>) -> Self {
        let credential = || {
            let folder = PathBuf::from(std::env::var_os(private_file::CREDENTIALS)?);
            Some(folder.join(CREDENTIAL)).filter(|path| path.is_file())
        };
        match file.or_else(credential) {
            Some(path) => Self::File(path),
            None if terminal::is_there() => Self::Terminal,
            None => Self::None,
        }
    }

    /// A known one.
    pub fn known(text: &str) -> Self {
        Self::Known(Secret::new(text.to_owned()))
    }

    /// None at all.
    pub const fn none() -> Self {
        Self::None
    }

    /// The passphrase of something that is sealed.
    ///
    /// # Errors
    /// There is none: nobody to ask, no file.
    pub fn ask(&self, asked: &str) -> Result<Secret<String>> {
        match self {
            Self::Known(text) => Ok(text.clone()),
            Self::File(path) => of_file(path),
            Self::Terminal => terminal::secret(asked),
            Self::None => Err(missing()),
        }
    }

    /// A new passphrase: typed twice.
    ///
    /// # Errors
    /// Both differ, it is too short, or there is none.
    pub fn choose(&self) -> Result<Secret<String>> {
        let chosen = self.ask("Choose a passphrase for the wallet: ")?;
        if chosen.expose().chars().count() < CHARS_MIN {
            return Err(Failure::usage(format!(
                "a passphrase has at least {CHARS_MIN} characters: four unrelated words make a good one"
            )));
        }
        if matches!(self, Self::Terminal)
            && terminal::secret("The same again: ")?.expose() != chosen.expose()
        {
            return Err(Failure::usage("the two differ: nothing was written"));
        }
        Ok(chosen)
    }
}

fn of_file(path: &Path) -> Result<Secret<String>> {
    private_file::first_line(path, "passphrase")
}

fn missing() -> Failure {
    Failure::usage(
        "the wallet needs a passphrase and there is no terminal to ask at: name a file with --passphrase-file \
         (or RAMARKET_PASSPHRASE_FILE, or the systemd credential wallet-passphrase); `--plain` makes a wallet without one",
    )
}
