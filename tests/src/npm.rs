//! Programs that are npm packages: installed once, as their committed lock file says.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

const INSTALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Installs the packages of `tests/<name>` unless they are those of its lock file. Returns the folder.
///
/// # Errors
/// npm is missing or fails.
pub async fn installed(name: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    tokio::task::spawn_blocking(move || {
        // tests are several processes: one installs, the others wait
        let lock = File::open(folder.join("package-lock.json"))?;
        lock.lock()?;
        let wanted = std::fs::read(folder.join("package-lock.json"))?;
        let stamp = folder.join("node_modules/.installed-lock.json");
        let runtime = tokio::runtime::Handle::current();
        if !std::fs::read(&stamp).is_ok_and(|found| found == wanted) {
            let mut command = Command::new("npm");
            command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
            command.current_dir(&folder);
            runtime.block_on(run(command, INSTALL_TIMEOUT))?;
            std::fs::write(&stamp, wanted)?;
        }
        Ok(folder)
    })
    .await?
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// It can't be started, fails (its words are in the error), or takes too long.
pub async fn run(mut command: Command, timeout: Duration) -> Result<String> {
    let shown = format!("{:?}", command.as_std().get_program());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(timeout, command.output())
        .await
        .with_context(|| format!("{shown} took longer than {timeout:?}"))?
        .with_context(|| format!("{shown} can't be started: apt-get install nodejs npm"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{shown} failed ({}): {}", output.status, errors.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}
