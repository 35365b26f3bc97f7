//! Keeps the firewall's table in the kernel as it should be.
//!
//! # Invariants
//! - The table is there before the first rental gets a network, and is compared with what was put there each time [`Guard::check`] is called:
//!   whoever flushes it or changes a rule of it gets it back.
//! - `nft` gets a document on its standard input and no text of anybody else's.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    Settings,
    host::Routes,
    rules::{TABLE, Wall},
};

/// How long `nft` may take.
const WITHIN: Duration = Duration::from_secs(10);
/// Where distributions put it; a service's search path may lack them.
const PLACES: [&str; 3] = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];

/// The table's keeper.
#[derive(Debug)]
pub struct Guard {
    settings: Settings,
    /// The document that was applied, and the table as `nft` lists it since.
    applied: Mutex<Option<Applied>>,
    /// One check at a time: two would each find the other's table strange.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Applied {
    document: String,
    listing: String,
}

impl Guard {
    /// Nothing is applied yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            applied: Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Whether the table was as it should be when it was looked at last.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.lock().is_some()
    }

    /// Makes sure that the table is as it should be; returns whether it had to be put there.
    ///
    /// # Errors
    /// There is no `nft`, it isn't permitted, or the kernel lacks what the rules need. The table is then taken as absent.
    pub async fn check(&self) -> anyhow::Result<bool> {
        let _turn = self.turn.lock().await;
        let done = self.check_in_turn().await;
        if done.is_err() {
            *self.lock() = None;
        }
        done
    }

    /// Takes the table away; without it no rental gets a network.
    ///
    /// # Errors
    /// As of [`Self::check`].
    pub async fn remove(&self) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        *self.lock() = None;
        // added first, so that it is no error if it isn't there
        nft(
            &["-f", "-"],
            &format!("add table {TABLE}\ndelete table {TABLE}\n"),
        )
        .await
        .map(drop)
    }

    async fn check_in_turn(&self) -> anyhow::Result<bool> {
        let document = self.document()?;
        let known = self.lock().clone();
        if let Some(known) = known.filter(|known| known.document == document) {
            if listing()
                .await
                .is_ok_and(|listing| listing == known.listing)
            {
                return Ok(false);
            }
            tracing::warn!(
                "the rules that keep rentals apart were changed or removed; they are put back"
            );
        }
        nft(&["-f", "-"], &document).await?;
        let listing = listing().await?;
        *self.lock() = Some(Applied { document, listing });
        Ok(true)
    }

    fn document(&self) -> anyhow::Result<String> {
        let wall = Wall {
            pool: self.settings.pool,
            nearby: Routes::read(Path::new("/proc"))?.nearby,
            blocked: self.settings.blocked.clone(),
        };
        Ok(wall.document())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Applied>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table without counters and without what its sets remember.
async fn listing() -> anyhow::Result<String> {
    let family_and_name: Vec<&str> = TABLE.split(' ').collect();
    nft(
        &[&["-s", "-t", "list", "table"], family_and_name.as_slice()].concat(),
        "",
    )
    .await
}

async fn nft(arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let program = PLACES.iter().map(PathBuf::from).find(|path| path.exists());
    let program =
        program.context("the program nft isn't installed; install the package nftables")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("nft can't be started")?;
    let mut stdin = child.stdin.take().context("nft has no standard input")?;
    let work = async {
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(WITHIN, work)
        .await
        .context("nft didn't end")??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "nft refused: {}",
        said.lines().next().unwrap_or("without a word")
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
