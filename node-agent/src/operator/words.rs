//! How the agent is doing, in words.

use std::fmt::Write as _;

use shared::{
    resources::{FindingStatus, Resources},
    wire::{
        observed::ObservedRental,
        operator::{Maintenance, Standing},
    },
};

use super::units::{shown_bytes, shown_millis, shown_span};
use crate::status::Status;

/// Lines of a name and a value.
#[derive(Debug, Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        let _never_fails = writeln!(self.0, "{name:<12} {value}");
    }
}

/// For people. `running` says whether the agent's process lives.
#[must_use]
pub fn status(status: &Status, running: bool) -> String {
    let mut lines = Lines::default();
    lines.add("node", &status.node_id.to_string());
    lines.add("coordinator", &status.url);
    contact(status, running, &mut lines);
    if let Some(fault) = &status.metering_fault {
        lines.add("metering", fault);
    }
    let backlog = status.journal_seq - status.acked_seq;
    lines.add(
        "journal",
        &format!(
            "{} records, {} acknowledged, {backlog} to send; {} kept in {}",
            status.journal_seq,
            status.acked_seq,
            status.journal_records,
            shown_bytes(status.journal_bytes)
        ),
    );
    if let Some(standing) = &status.standing {
        market(standing, &mut lines);
    }
    if status.orders_waiting > 0 {
        let waiting = format!("{} wait for the market's answer", status.orders_waiting);
        lines.add("orders", &waiting);
    }
    if let Some(pressure) = &status.memory_pressure {
        lines.add("memory", pressure);
    }
    for finding in &status.findings {
        let word = match finding.status {
            FindingStatus::Failed => "failed",
            FindingStatus::Warning => "warning",
            FindingStatus::Ok => "ok",
        };
        lines.add(word, &format!("{}: {}", finding.check, finding.cause));
        if finding.status == FindingStatus::Failed {
            lines.add("", &finding.mend);
        }
    }
    lines.add("rentals", &status.rentals.len().to_string());
    for observed in &status.rentals {
        lines.add("", &rental(status, observed));
    }
    lines.0
}

fn contact(status: &Status, running: bool, lines: &mut Lines) {
    let since = status
        .since
        .map(|since| format!(" since {since}"))
        .unwrap_or_default();
    if running {
        lines.add("contact", &format!("{}{since}", status.contact));
    } else {
        let old = format!("none: the agent isn't running; this is of {}", status.at);
        lines.add("contact", &old);
    }
    if let Some(reason) = &status.reason {
        lines.add("because", reason);
    }
    if let Some(at) = status.last_answer_at {
        let ago = shown_span(status.at.ms_since(at));
        lines.add("last answer", &format!("{ago} before"));
    }
}

fn market(standing: &Standing, lines: &mut Lines) {
    let mut state = standing.schedulability.clone();
    if let Some(deadline) = standing.drain_deadline {
        let _never_fails = write!(state, ", what runs ends at {deadline}");
    }
    lines.add("market", &state);
    lines.add("offered", &size(&standing.rentable));
    lines.add("rented", &size(&less(&standing.rentable, &standing.free)));
    lines.add("free", &size(&standing.free));
    lines.add("at most", &size(&standing.rentable_max));
    for window in &standing.maintenance {
        lines.add("maintenance", &maintenance(window));
    }
}

/// A window in words.
#[must_use]
pub fn maintenance(window: &Maintenance) -> String {
    let note = if window.note.is_empty() {
        String::new()
    } else {
        format!(": {}", window.note)
    };
    format!("{} until {}{note}", window.starts_at, window.ends_at)
}

/// A slice in words.
#[must_use]
pub fn size(part: &Resources) -> String {
    let mut words = format!(
        "{} memory, {} processors",
        shown_bytes(part.ram_bytes),
        shown_millis(part.cpu_millis)
    );
    if part.gpu_count > 0 {
        let _never_fails = write!(words, ", {} GPUs", part.gpu_count);
    }
    if part.disk_bytes > 0 {
        let _never_fails = write!(words, ", {} disk", shown_bytes(part.disk_bytes));
    }
    words
}

const fn less(all: &Resources, free: &Resources) -> Resources {
    Resources {
        ram_bytes: all.ram_bytes.saturating_sub(free.ram_bytes),
        cpu_millis: all.cpu_millis.saturating_sub(free.cpu_millis),
        gpu_count: all.gpu_count.saturating_sub(free.gpu_count),
        disk_bytes: all.disk_bytes.saturating_sub(free.disk_bytes),
    }
}

fn rental(status: &Status, observed: &ObservedRental) -> String {
    let phase = serde_json::to_value(&observed.phase).ok();
    let word = phase
        .as_ref()
        .and_then(|phase| phase.get("phase")?.as_str())
        .unwrap_or("unknown");
    let mut line = format!("{} {word}", observed.rental_id);
    if let (Some(started), None) = (observed.started_at, observed.finished_at) {
        let _never_fails = write!(line, " for {}", shown_span(status.at.ms_since(started)));
    }
    let used = status
        .in_use
        .iter()
        .find(|one| one.rental_id == observed.rental_id);
    if let Some(used) = used {
        if let Some(ram_bytes) = used.ram_bytes {
            let _never_fails = write!(line, ", {} in use", shown_bytes(ram_bytes));
        }
        if let Some(cpu_ns) = used.cpu_ns {
            let _never_fails = write!(line, ", {} of CPU time", shown_span(cpu_ns / 1_000_000));
        }
        if let Some(kills) = used.oom_kills.filter(|kills| *kills > 0) {
            let _never_fails = write!(line, ", {kills} processes killed for want of memory");
        }
    }
    line
}
