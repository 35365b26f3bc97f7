//! Figures: values of rounds, their middle, and the table of rows with goals that comes at the end.

use std::{io::Write as _, process::ExitCode};

/// Prints a line.
pub(crate) fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // nobody listens any more: the figures are lost, and nothing else is
    drop(writeln!(out, "{text}").and_then(|()| out.flush()));
}

/// The values of one figure over all rounds, in the order of the rounds.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
}

impl Series {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self {
            name: name.into(),
            unit,
            values,
        }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle value; of an even number, the mean of the two in the middle. Not a number when there are none.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let Some(last) = sorted.len().checked_sub(1) else {
            return f64::NAN;
        };
        f64::midpoint(sorted[last / 2], sorted[sorted.len() / 2])
    }

    /// `min / median / max unit`.
    pub(crate) fn spread(&self) -> String {
        let sorted = self.sorted();
        match (sorted.first(), sorted.last()) {
            (Some(least), Some(most)) => format!(
                "{} / {} / {} {}",
                short(*least),
                short(self.median()),
                short(*most),
                self.unit
            ),
            _ => "no value".to_owned(),
        }
    }

    /// Prints every value and the spread.
    pub(crate) fn tell(&self) {
        let values: Vec<String> = self.values.iter().map(|value| short(*value)).collect();
        say(&format!(
            "  {} ({}): {}",
            self.name,
            self.unit,
            values.join(" ")
        ));
        say(&format!("    min / median / max: {}", self.spread()));
    }
}

/// Three significant digits, as far as that makes sense.
fn short(value: f64) -> String {
    match value.abs() {
        0.0..0.1 => format!("{value:.4}"),
        0.1..10.0 => format!("{value:.2}"),
        10.0..1_000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// What a row's figure must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Shown, not judged.
    None,
}

#[derive(Debug)]
struct Line {
    name: String,
    ours: String,
    limit: String,
    figure: String,
    goal: String,
    verdict: &'static str,
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
    missed: bool,
}

impl Report {
    /// A figure of ours, what it is compared with, and the figure that is judged: a ratio (unit ×) or a difference.
    pub(crate) fn add(
        &mut self,
        name: &str,
        ours: &Series,
        limit: &Series,
        (figure, unit): (f64, &str),
        goal: Goal,
    ) {
        ours.tell();
        limit.tell();
        // not a number is no success either
        let (goal, kept) = match goal {
            Goal::None => ("–".to_owned(), None),
            Goal::AtMost(most) => (format!("≤ {most} {unit}"), Some(figure <= most)),
            Goal::AtLeast(least) => (format!("≥ {least} {unit}"), Some(figure >= least)),
        };
        self.missed |= kept == Some(false);
        let verdict = match kept {
            None => "shown",
            Some(true) => "kept",
            Some(false) => "MISSED",
        };
        let figure = format!("{} {unit}", short(figure));
        say(&format!("  => {name}: {figure} (goal {goal}): {verdict}"));
        self.lines.push(Line {
            name: name.to_owned(),
            ours: ours.spread(),
            limit: format!("{}: {}", limit.name, limit.spread()),
            figure,
            goal,
            verdict,
        });
    }

    /// A row that can't be measured here.
    pub(crate) fn absent(&mut self, name: &str, why: &str) {
        say(&format!("SKIPPED: {name}: {why}"));
        self.lines.push(Line {
            name: name.to_owned(),
            ours: why.to_owned(),
            limit: "–".to_owned(),
            figure: "–".to_owned(),
            goal: "–".to_owned(),
            verdict: "SKIPPED",
        });
    }

    /// Prints the table; fails when a goal was missed, unless nothing counts.
    pub(crate) fn finish(&self, quick: bool) -> ExitCode {
        let mut table = vec![
            String::new(),
            "| row | ours (min / median / max) | beside it | figure | goal | |".to_owned(),
            "|---|---|---|---|---|---|".to_owned(),
        ];
        table.extend(self.lines.iter().map(|line| {
            let Line {
                name,
                ours,
                limit,
                figure,
                goal,
                verdict,
            } = line;
            format!("| {name} | {ours} | {limit} | {figure} | {goal} | {verdict} |")
        }));
        say(&table.join("\n"));
        if quick {
            say("--quick: too few rounds for a verdict");
            return ExitCode::SUCCESS;
        }
        if self.missed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// Runs `round` until `wanted` rounds were quiet: the disk's probe before and after took at most three times that of the
/// best round. Gives up after twice as many. Returns the quiet ones, and prints how many were thrown away.
pub(crate) async fn quiet_rounds<T>(
    wanted: usize,
    folder: &std::path::Path,
    mut round: impl AsyncFnMut(usize) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<T>> {
    const SLOWER_MAX: f64 = 3.0;
    let mut all: Vec<(f64, T)> = Vec::new();
    let best = |all: &[(f64, T)]| all.iter().map(|(ms, _)| *ms).fold(f64::INFINITY, f64::min);
    for number in 0..wanted * 2 {
        let before = crate::machine::fsync_ms(folder)?;
        let value = round(number).await?;
        all.push((before.max(crate::machine::fsync_ms(folder)?), value));
        let limit = best(&all) * SLOWER_MAX;
        if all.iter().filter(|(ms, _)| *ms <= limit).count() >= wanted {
            break;
        }
    }
    let (limit, count) = (best(&all) * SLOWER_MAX, all.len());
    let probes = Series::new(
        "fdatasync probe",
        "ms",
        all.iter().map(|(ms, _)| *ms).collect(),
    );
    let quiet: Vec<T> = all
        .into_iter()
        .filter(|(ms, _)| *ms <= limit)
        .map(|(_, value)| value)
        .collect();
    say(&format!(
        "  rounds: {count}, thrown away as disturbed: {}; {} {}; load {}",
        count - quiet.len(),
        probes.name,
        probes.spread(),
        crate::machine::load()?
    ));
    anyhow::ensure!(
        quiet.len() * 2 >= wanted,
        "the machine is too busy: only {} of {count} rounds were undisturbed; repeat it when nothing else runs",
        quiet.len()
    );
    Ok(quiet)
}
