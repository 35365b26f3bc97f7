//! The file of signed checkpoints beside the database, and the command that compares it with the log.
//!
//! # Invariants
//! - The file only grows; a line is on the disk before the task that wrote it says so.
//! - A line that a crash tore is told and passed over; a whole line with another signature is a finding.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Serialize;
use shared::sign::PublicKey;

use crate::{
    config::Config,
    domain::audit::{
        check::{self, Finding, Report},
        checkpoint::Checkpoint,
    },
    store::Db,
};

const LINE_BYTES_MAX: u64 = 4_096;

/// Where this coordinator keeps its checkpoints.
#[must_use]
pub fn path(config: &Config) -> PathBuf {
    config.data_dir.join("audit").join("checkpoints.jsonl")
}

/// Adds a line, durably.
///
/// # Errors
/// What the file system says.
pub fn append(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let mut file = options.open(path)?;
    let mut text = String::with_capacity(line.len().saturating_add(2));
    if is_torn(&mut file)? {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Whether the last line has no end: a crash came in between.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// What [`verify`] found.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Of the log.
    pub report: Report,
    /// Lines of the files that a crash tore.
    pub torn_lines: usize,
}

/// Compares the log with itself and with the checkpoints of `files`.
///
/// # Errors
/// A file can't be read, or what the database says.
pub async fn verify(db: &Db, files: &[PathBuf], key: &PublicKey) -> anyhow::Result<Verdict> {
    let (mut checkpoints, mut forged, mut torn_lines) = (Vec::new(), Vec::new(), 0);
    for path in files {
        let name = path.display();
        let file = File::open(path).with_context(|| format!("read {name}"))?;
        let mut reader = BufReader::new(file);
        for number in 1.. {
            let mut line = String::new();
            let read = (&mut reader).take(LINE_BYTES_MAX).read_line(&mut line);
            if read.with_context(|| format!("read {name}"))? == 0 {
                break;
            }
            match Checkpoint::from_line(line.trim_end(), key) {
                Ok(checkpoint) => checkpoints.push(checkpoint),
                Err(_) if serde_json::from_str::<serde_json::Value>(&line).is_err() => {
                    torn_lines += 1;
                }
                Err(why) => forged.push(Finding {
                    seq: 0,
                    what: format!("{name}, line {number}: {why}"),
                }),
            }
        }
    }
    let mut report = check::check(db, checkpoints).await?;
    report
        .findings
        .extend(forged.into_iter().take(check::FINDINGS_MAX));
    Ok(Verdict { report, torn_lines })
}
