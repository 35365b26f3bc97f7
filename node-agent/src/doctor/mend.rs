//! What `--fix` may do: rights that are too wide, units that don't run, the firewall's table.
//!
//! # Invariants
//! - Nothing here can end a rental or lose data: rights are only taken away, units are only started, and the helper is restarted only for the
//!   firewall (rentals outlive that).
//! - Each says what it did, or why it couldn't.

use std::{
    fs::Permissions, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Stdio,
    time::Duration,
};

use shared::resources::{Finding, FindingStatus};
use tokio::{process::Command, time::timeout};

use super::{
    facts::{Enrolled, Facts, Helper},
    host::is_open,
};

/// How long systemd may take.
const WITHIN: Duration = Duration::from_secs(90);

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// Take rights away from others.
    Mode {
        /// Of which file.
        path: PathBuf,
        /// What is left.
        mode: u32,
    },
    /// `systemctl VERB UNIT`.
    Unit {
        /// `start` or `restart`.
        verb: &'static str,
        /// Which.
        unit: &'static str,
    },
}

/// What can be done about findings.
#[must_use]
pub fn of(facts: &Facts, findings: &[Finding]) -> Vec<Mend> {
    let wrong = |name: &str| {
        findings
            .iter()
            .any(|finding| finding.check == name && finding.status != FindingStatus::Ok)
    };
    let mut mends = Vec::new();
    if wrong("files") {
        let open = facts.files.iter().filter(|file| is_open(file));
        mends.extend(open.map(|file| Mend::Mode {
            path: file.path.clone(),
            mode: file.mode.unwrap_or_default() & file.wanted,
        }));
    }
    if facts.unit.is_none() {
        return mends;
    }
    let unit = |verb, unit| Mend::Unit { verb, unit };
    if wrong("docker") && !matches!(facts.helper, Helper::Away(_)) {
        mends.push(unit("start", "docker.service"));
    }
    match &facts.helper {
        Helper::Away(_) if wrong("helper") => mends.push(unit("start", "ramarket-helper.service")),
        Helper::There { .. } if wrong("helper") || firewall_is_down(findings) => {
            mends.push(unit("restart", "ramarket-helper.service"));
        }
        _ => {}
    }
    if wrong("agent") && !facts.agent_runs && matches!(facts.enrolled, Enrolled::Yes { .. }) {
        mends.push(unit("start", "ramarket-agent.service"));
    }
    mends
}

/// A warning is only that nobody has looked yet.
fn firewall_is_down(findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.check == "firewall" && finding.status == FindingStatus::Failed)
}

impl Mend {
    /// Does it; what was done, or why not, in words.
    pub async fn carry_out(&self) -> String {
        match self {
            Self::Mode { path, mode } => {
                let shown = path.display();
                match std::fs::set_permissions(path, Permissions::from_mode(*mode)) {
                    Ok(()) => format!("{shown} has mode {mode:04o} now"),
                    Err(error) => format!(
                        "not mended: the mode of {shown} can't be set: {error}; run as root"
                    ),
                }
            }
            Self::Unit { verb, unit } => {
                if !rustix::process::geteuid().is_root() {
                    return format!("not mended: this needs root: sudo systemctl {verb} {unit}");
                }
                match systemctl(verb, unit).await {
                    Ok(()) => format!("done: systemctl {verb} {unit}"),
                    Err(why) => format!("not mended: systemctl {verb} {unit}: {why}"),
                }
            }
        }
    }
}

async fn systemctl(verb: &str, unit: &str) -> Result<(), String> {
    let child = Command::new("systemctl")
        .args([verb, unit])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(WITHIN, child)
        .await
        .map_err(|_| "it takes too long".to_owned())?
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("without a word").to_owned())
}
