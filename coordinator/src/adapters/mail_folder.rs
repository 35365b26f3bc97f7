//! Mail into a folder, one `.eml` file per mail: for development, and for markets that a program of their own picks up from.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use lettre::message::Mailbox;

use super::letter;
use crate::domain::mail::ports::{Letter, MailError, Mailer};

/// Writes mail into a folder that only its owner can read.
#[derive(Debug)]
pub struct FolderMailer {
    folder: PathBuf,
    from: Mailbox,
}

impl FolderMailer {
    /// Into `folder`, which is made when it is needed.
    #[must_use]
    pub const fn new(folder: PathBuf, from: Mailbox) -> Self {
        Self { folder, from }
    }
}

#[async_trait]
impl Mailer for FolderMailer {
    async fn send(&self, letter: &Letter) -> Result<(), MailError> {
        let text = letter::message(letter, &self.from)?.formatted();
        let folder = self.folder.clone();
        // ids grow with time, so names sort by it
        let name = format!("{}.eml", letter.id);
        let written = tokio::task::spawn_blocking(move || write(&folder, &name, &text));
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(MailError::Later(format!("mail folder: {error}"))),
            Err(error) => Err(MailError::Later(error.to_string())),
        }
    }
}

/// Under another name first: whoever looks into the folder sees whole mails only.
fn write(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let temp = folder.join(format!(".{name}"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temp, folder.join(name))?;
    File::open(folder)?.sync_all()
}
