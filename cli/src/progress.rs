//! How far long work is: a bar or a spinner on a terminal, a line for each step elsewhere.
//!
//! # Invariants
//! - What is shown is plain: names come from rentals, and must not steer the terminal.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{plain, tell};

const BAR: &str = "{msg} {bytes}/{total_bytes} {bytes_per_sec} {eta}";

/// What is shown.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Nothing yet.
    pub fn new() -> Self {
        let bar = std::io::stderr()
            .is_terminal()
            .then(ProgressBar::new_spinner);
        if let Some(bar) = &bar {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Self { bar }
    }

    /// A step.
    pub fn show(&self, step: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(plain(step)),
            None => tell(step),
        }
    }

    /// Something of so many bytes begins; without a terminal nothing is told of it.
    pub fn begin(&self, what: &str, bytes: Option<u64>) {
        let Some(bar) = &self.bar else { return };
        bar.reset();
        bar.set_length(bytes.unwrap_or_default());
        if let Ok(style) = ProgressStyle::with_template(BAR) {
            bar.set_style(style);
        }
        bar.set_message(plain(what));
    }

    /// So many bytes more.
    pub fn add(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_dont_steer_the_terminal() {
        let bar = ProgressBar::hidden();
        let progress = Progress {
            bar: Some(bar.clone()),
        };
        progress.begin("a\u{1b}]0;title\u{7}\nb\u{9b}2J", Some(1));
        assert_eq!(bar.message(), "a ]0;title  b 2J");
        progress.show("\u{1b}[2J");
        assert_eq!(bar.message(), " [2J");
    }
}
