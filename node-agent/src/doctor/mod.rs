//! `ramarket-agent doctor`: is everything on this machine as lending it needs it, and if not, why, and what to do.
//!
//! [`facts`] looks and decides nothing; the checks ([`engine`], [`host`], [`market`], [`service`]) decide from facts alone; [`mend`] does what
//! is safe.
//!
//! # Invariants
//! - Every check has a stable name and always says something: what can't be looked at is a finding too.
//! - It works before enrolment, with the agent stopped and with the engine away.
//! - Nothing is changed without `--fix`, and each change is said.

mod engine;
pub mod facts;
mod host;
mod market;
pub mod mend;
mod service;

#[cfg(test)]
mod tests;

use serde::Serialize;
use shared::{
    clock::SystemClock,
    resources::{Finding, FindingStatus},
};

use self::facts::Facts;
use crate::{config::Config, written::print};

/// A check: its name, and how it is decided.
struct Check {
    name: &'static str,
    judge: fn(&'static str, &Facts) -> Finding,
}

/// Every check, in the order in which they are shown: first what the others need.
const CHECKS: &[Check] = &[
    check("helper", service::helper),
    check("docker", engine::docker),
    check("docker_version", engine::isolation),
    check("containerd_version", engine::isolation),
    check("runc_version", engine::isolation),
    check("kernel_version", engine::isolation),
    check("isolation_class", engine::isolation),
    check("seccomp", engine::isolation),
    check("userns_remap", engine::isolation_if_shared),
    check("kernel_confinement", engine::isolation_if_shared),
    check("firewall", engine::isolation),
    check("isolation_probe", engine::isolation),
    check("live_restore", engine::live_restore),
    check("docker_over_tcp", engine::over_tcp),
    check("gpu_toolkit", engine::gpu_toolkit),
    check("cgroups", host::cgroups),
    check("disk_quota", host::disk_quota),
    check("memory", host::memory),
    check("files", host::files),
    check("ports", host::ports),
    check("clock_sync", host::clock_sync),
    check("enrolment", market::enrolment),
    check("dns", market::dns),
    check("coordinator", market::coordinator),
    check("clock", market::clock),
    check("agent", service::agent),
    check("service", service::unit),
];

const fn check(name: &'static str, judge: fn(&'static str, &Facts) -> Finding) -> Check {
    Check { name, judge }
}

/// What is asked of the doctor.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  ramarket-agent doctor                      everything
  ramarket-agent doctor --only docker --only firewall
  ramarket-agent doctor --json               for programs: {\"findings\": [{\"check\", \"status\", \"cause\", \"mend\"}], \"mended\": []}
  sudo ramarket-agent doctor --fix           wrong modes of files, units that don't run, the firewall's table

Exit code: 0 all is well · 1 warnings · 2 something failed")]
pub struct Ask {
    /// As JSON, on one line
    #[arg(long)]
    json: bool,
    /// Mend what can be mended safely, and say what was done
    #[arg(long)]
    fix: bool,
    /// This check only; may be given several times
    #[arg(long, value_name = "NAME", value_parser = known)]
    only: Vec<String>,
    /// The coordinator to look for, on a machine that isn't enrolled yet
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

fn known(name: &str) -> Result<String, String> {
    if CHECKS.iter().any(|check| check.name == name) {
        return Ok(name.to_owned());
    }
    let names: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
    Err(format!("the checks are {}", names.join(", ")))
}

/// What was found and done.
#[derive(Debug, Serialize)]
struct Report {
    findings: Vec<Finding>,
    /// What `--fix` did, or tried.
    mended: Vec<String>,
}

/// Looks, mends if asked to, and says what it found. The exit code: 0 well, 1 warnings, 2 something failed.
///
/// # Errors
/// Nobody reads, or a URL isn't one.
pub async fn doctor(config: &Config, ask: &Ask) -> anyhow::Result<u8> {
    let clock = SystemClock;
    let mut facts = Facts::gather(config, ask.url.as_deref(), &clock).await?;
    let mut findings = judge(&facts, &ask.only);
    let mut mended = Vec::new();
    if ask.fix {
        for mend in mend::of(&facts, &findings) {
            mended.push(mend.carry_out().await);
        }
        if !mended.is_empty() {
            facts = Facts::gather(config, ask.url.as_deref(), &clock).await?;
            findings = judge(&facts, &ask.only);
        }
    }
    let code = exit_code(&findings);
    let report = Report { findings, mended };
    print(&if ask.json {
        format!("{}\n", serde_json::to_string(&report)?)
    } else {
        words(&report)
    })?;
    Ok(code)
}

fn judge(facts: &Facts, only: &[String]) -> Vec<Finding> {
    let wanted = |check: &&Check| only.is_empty() || only.iter().any(|name| name == check.name);
    let wanted = CHECKS.iter().filter(wanted);
    wanted
        .map(|check| (check.judge)(check.name, facts))
        .collect()
}

fn exit_code(findings: &[Finding]) -> u8 {
    match findings.iter().map(|finding| finding.status).max() {
        None | Some(FindingStatus::Ok) => 0,
        Some(FindingStatus::Warning) => 1,
        Some(FindingStatus::Failed) => 2,
    }
}

fn words(report: &Report) -> String {
    let mut text = String::new();
    for done in &report.mended {
        text.push_str(&format!("mended   {done}\n"));
    }
    for finding in &report.findings {
        let word = match finding.status {
            FindingStatus::Ok => "ok",
            FindingStatus::Warning => "warning",
            FindingStatus::Failed => "FAILED",
        };
        text.push_str(&format!(
            "{word:<8} {:<19} {}\n",
            finding.check, finding.cause
        ));
        if finding.status != FindingStatus::Ok {
            text.push_str(&format!("{:28} → {}\n", "", finding.mend));
        }
    }
    text
}

fn ok(name: &str, cause: &str) -> Finding {
    Finding::new(name, FindingStatus::Ok, cause, "")
}

fn warning(name: &str, cause: &str, mend: &str) -> Finding {
    Finding::new(name, FindingStatus::Warning, cause, mend)
}

fn failed(name: &str, cause: &str, mend: &str) -> Finding {
    Finding::new(name, FindingStatus::Failed, cause, mend)
}
