//! Whether the machine's memory runs short: by the kernel's own account of programs that wait for memory (PSI), else by what is left.
//!
//! # Invariants
//! - It begins at one bound and ends at a lower one, so that it doesn't flicker.

use std::path::Path;

use shared::resources::host_reserve_bytes;

/// Programs wait for so much of the last ten seconds, hundredths of a per cent: shortage begins.
const WAITING_BEGINS: i64 = 2_000;
/// Below this it ends.
const WAITING_ENDS: i64 = 500;
/// A share of the host's reserve: less than one over this is left, shortage begins.
const LEFT_BEGINS: i64 = 4;
/// More than one over this is left: it ends.
const LEFT_ENDS: i64 = 2;

/// Remembers whether memory was short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    short: bool,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Share of the last ten seconds in which some program waited for memory, hundredths of a per cent; `None` where the kernel doesn't
    /// say.
    pub waiting: Option<i64>,
    /// Memory that could be given to a program now, bytes.
    pub available_bytes: i64,
    /// All memory, bytes.
    pub total_bytes: i64,
}

impl Pressure {
    /// Why memory is short; `None` while it isn't.
    pub fn judge(&mut self, seen: Seen) -> Option<String> {
        let reserve = host_reserve_bytes(seen.total_bytes);
        let (waits, parts) = if self.short {
            (WAITING_ENDS, LEFT_ENDS)
        } else {
            (WAITING_BEGINS, LEFT_BEGINS)
        };
        let waiting = seen.waiting.filter(|waiting| *waiting >= waits);
        let little = seen.available_bytes < reserve / parts;
        self.short = waiting.is_some() || little;
        match waiting {
            Some(waiting) => Some(format!(
                "programs wait for memory {} % of the time",
                waiting / 100
            )),
            None if little => Some(format!(
                "{} MiB of memory are left of the {} MiB that are the machine's own",
                seen.available_bytes >> 20,
                reserve >> 20
            )),
            None => None,
        }
    }
}

/// The kernel's figure; `None` where it keeps none.
pub(crate) fn waiting(root: &Path) -> Option<i64> {
    parsed(&std::fs::read_to_string(root.join("proc/pressure/memory")).ok()?)
}

/// `some avg10=12.34 avg60=…` → 1234.
fn parsed(text: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let share = line
        .split(' ')
        .find_map(|part| part.strip_prefix("avg10="))?;
    let (whole, part) = share.split_once('.')?;
    let whole: i64 = whole.parse().ok()?;
    let part: i64 = part.get(..2)?.parse().ok()?;
    whole.checked_mul(100)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: i64 = 1 << 30;

    fn seen(waiting: Option<i64>, available_bytes: i64) -> Seen {
        Seen {
            waiting,
            available_bytes,
            total_bytes: 16 * GIB,
        }
    }

    #[test]
    fn shortage_begins_at_one_bound_and_ends_at_a_lower_one() {
        let mut pressure = Pressure::default();
        for (waiting, short) in [
            (1_999, false),
            (2_000, true),
            (600, true),
            (499, false),
            (600, false),
        ] {
            let why = pressure.judge(seen(Some(waiting), 8 * GIB));
            assert_eq!(why.is_some(), short, "{waiting}: {why:?}");
        }
    }

    #[test]
    fn where_the_kernel_keeps_no_account_what_is_left_decides() {
        let mut pressure = Pressure::default();
        // the reserve of 16 GiB is 1 GiB
        for (left, short) in [
            (256 << 20, false),
            ((256 << 20) - 1, true),
            (400 << 20, true),
            (512 << 20, false),
            (300 << 20, false),
        ] {
            let why = pressure.judge(seen(None, left));
            assert_eq!(why.is_some(), short, "{left}: {why:?}");
        }
    }

    #[test]
    fn the_kernels_text_is_read() {
        let text = "some avg10=12.34 avg60=1.00 avg300=0.00 total=1\nfull avg10=1.00 avg60=0 avg300=0 total=0\n";
        assert_eq!(parsed(text), Some(1_234));
        assert_eq!(parsed("some avg10=0.00 avg60=0.00"), Some(0));
        for broken in ["", "full avg10=1.00", "some avg10=x.yz", "some avg10=1"] {
            assert_eq!(parsed(broken), None, "{broken}");
        }
    }
}
