//! The programs that make file systems and loop devices: Debian's `e2fsprogs` and `mount`, which every machine with Docker has.
//!
//! # Invariants
//! - Arguments are this crate's own: a path that it made from a rental's id, and numbers.
//! - Each has little time: none of them touches more than the beginning of a file.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::BYTES_PER_INODE;

/// How long one may take: a file system of terabytes on a slow disk.
const WITHIN: Duration = Duration::from_secs(60);
/// Where distributions put them; a service's search path may lack some.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// A loop device and what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loop {
    /// `/dev/loop0`
    pub(super) device: PathBuf,
    /// The file, as the kernel knows it now.
    pub(super) file: PathBuf,
}

/// Makes an empty ext4 in a file: nothing kept back for root, files bounded in number, its first folder open to every user of the one
/// container that gets it.
///
/// # Errors
/// A program is missing or refuses.
pub(super) async fn make_file_system(file: &Path) -> anyhow::Result<()> {
    let ratio = BYTES_PER_INODE.to_string();
    // nodiscard: what was reserved stays reserved. On errors it can only be read any more
    let options = ["-q", "-F", "-t", "ext4", "-m", "0", "-e", "remount-ro"];
    // and nothing is left for the kernel to do later, which would give space back as well
    let more = [
        "-i",
        ratio.as_str(),
        "-E",
        "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
    ];
    let options: Vec<&str> = options.into_iter().chain(more).collect();
    run("mke2fs", &options, Some(file)).await?;
    // the mode can't be given to mke2fs of every age
    run(
        "debugfs",
        &["-w", "-R", "set_inode_field <2> mode 040777"],
        Some(file),
    )
    .await?;
    Ok(())
}

/// The loop device of a file, attached now or before.
///
/// # Errors
/// There is none to be had.
pub(super) async fn attach(file: &Path) -> anyhow::Result<PathBuf> {
    let options = ["--find", "--show", "--nooverlap"];
    // without a second copy of everything in memory, where the disk below can
    let direct: Vec<&str> = options.into_iter().chain(["--direct-io=on"]).collect();
    let said = match run("losetup", &direct, Some(file)).await {
        Ok(said) => said,
        Err(_) => run("losetup", &options, Some(file)).await?,
    };
    let device = PathBuf::from(said.trim());
    ensure!(
        device.starts_with("/dev"),
        "losetup named no device: {said}"
    );
    Ok(device)
}

/// Takes a loop device off its file; one that is still mounted goes when it isn't any more.
///
/// # Errors
/// The kernel refuses.
pub(super) async fn detach(device: &Path) -> anyhow::Result<()> {
    run("losetup", &["--detach"], Some(device)).await.map(drop)
}

/// All loop devices of this machine that have a file.
///
/// # Errors
/// They can't be listed.
pub(super) async fn loops() -> anyhow::Result<Vec<Loop>> {
    let columns = [
        "--list",
        "--noheadings",
        "--raw",
        "--output",
        "NAME,BACK-FILE",
    ];
    let said = run("losetup", &columns, None).await?;
    let parsed = said.lines().filter_map(|line| {
        let (device, file) = line.split_once(' ')?;
        // of a file that was removed the kernel adds a word
        let file = file.trim_end_matches(" (deleted)");
        let file = file.trim_end_matches("\\x20(deleted)");
        Some(Loop {
            device: PathBuf::from(device),
            file: PathBuf::from(file),
        })
    });
    Ok(parsed.collect())
}

async fn run(program: &str, options: &[&str], path: Option<&Path>) -> anyhow::Result<String> {
    let found = FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.exists());
    let found = found.with_context(|| {
        format!("the program {program} isn't installed; install the packages mount and e2fsprogs")
    })?;
    let child = Command::new(found)
        .args(options)
        .args(path)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(WITHIN, child)
        .await
        .with_context(|| format!("{program} didn't end"))?
        .with_context(|| format!("{program} can't be started"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} refused: {}",
        said.lines().last().unwrap_or("without a word")
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
