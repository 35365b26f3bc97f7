//! `post-mortem`: what is kept of a rental that is over, as one file.
//!
//! # Invariants
//! - The file has its name when it is whole, and only then; one that exists is never replaced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Response;
use serde_json::json;
use tokio::time::timeout;

use super::Desk;
use crate::{
    api::Request,
    args::reach::PostMortem,
    failure::{Failure, Kind, Result},
    output::{self, Form, tell},
    private_file, random, units,
};

/// The next piece comes within this.
const PIECE_WITHIN: Duration = Duration::from_secs(30);
const MODE: u32 = 0o600;

/// Fetches it.
pub(super) async fn run(desk: &Desk, wanted: &PostMortem) -> Result<()> {
    let id = wanted.rental.to_string();
    let to_stdout = wanted.output.as_deref() == Some(Path::new("-"));
    let path = wanted.output.clone();
    let path = path.unwrap_or_else(|| PathBuf::from(format!("{id}-post-mortem.tar.gz")));
    if !to_stdout {
        private_file::must_be_new(&path)?;
    }
    let request = Request::get(format!("/api/v1/rentals/{id}/post-mortem"));
    let archive = desk.api.open(&request.auth(desk.auth_for(&id)?)).await?;
    if to_stdout {
        return fetch(desk, archive, &mut io::stdout().lock(), "standard output")
            .await
            .map(drop);
    }
    let bytes = keep(desk, archive, &path).await?;
    let shown = path.display().to_string();
    match desk.form {
        Form::Json => output::one(desk.form, &json!({"file": shown, "bytes": bytes}), &[]),
        Form::Ids => output::lines(&[shown]),
        Form::Text => {
            let bytes = units::show_bytes(i64::try_from(bytes).unwrap_or(i64::MAX));
            tell(&format!(
                "wrote {shown}, {bytes}: README.txt in it says what is there and what is missing"
            ));
            Ok(())
        }
    }
}

/// Writes it beside, and gives it its name when it is on disk.
async fn keep(desk: &Desk, archive: Response, path: &Path) -> Result<u64> {
    let beside = path.with_added_extension(format!("part-{}", hex::encode(random::bytes::<4>()?)));
    let shown = path.display().to_string();
    let wrong = |error: io::Error| unwritable(&shown, &error);
    let kept = async {
        let mut options = OpenOptions::new();
        let opened = options
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&beside);
        let mut file: File = opened.map_err(wrong)?;
        let bytes = fetch(desk, archive, &mut file, &shown).await?;
        file.sync_all().map_err(wrong)?;
        // fails where there is something by now, as a rename wouldn't
        fs::hard_link(&beside, path).map_err(wrong)?;
        Ok(bytes)
    };
    let kept = kept.await;
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => kept.and(Err(wrong(error))),
        _ => kept,
    }
}

/// Passes the archive on as it comes; its length.
async fn fetch(
    desk: &Desk,
    mut archive: Response,
    to: &mut impl Write,
    shown: &str,
) -> Result<u64> {
    let wrong = |error: io::Error| unwritable(shown, &error);
    let mut bytes = 0;
    let late = |_| {
        Failure::new(
            Kind::Unreachable,
            "the market stopped in the middle of the archive: try again",
        )
    };
    // the answer says how long it is: one that is cut is an error
    while let Some(piece) = timeout(PIECE_WITHIN, archive.chunk())
        .await
        .map_err(late)?
        .map_err(|error| desk.api.unreachable(&error))?
    {
        to.write_all(&piece).map_err(wrong)?;
        bytes += u64::try_from(piece.len()).unwrap_or_default();
    }
    to.flush().map_err(wrong)?;
    Ok(bytes)
}

fn unwritable(shown: &str, error: &io::Error) -> Failure {
    Failure::failed(format!("{shown} can't be written: {error}"))
}
