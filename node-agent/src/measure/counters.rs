//! From what the kernel counts to what a container used: pure arithmetic on integers.
//!
//! # Invariants
//! - No counter ever goes down. When the kernel starts one again at 0, the work between its last reading and the restart is lost,
//!   never estimated: a reading can only be too small.
//! - Memory × time is summed in byte·milliseconds without rounding; only what is reported is rounded down.
//! - Time in which the agent didn't look (it was down, the container was paused from its view) adds no memory × time.

use shared::journal::Record;

use crate::journal::Counters;

/// What was read; `None` where a file couldn't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Reading {
    /// CPU time of the group, nanoseconds.
    pub(super) cpu_ns: Option<i64>,
    /// Memory in use, bytes.
    pub(super) memory_bytes: Option<i64>,
    /// Bytes received and sent.
    pub(super) net_bytes: Option<(i64, i64)>,
}

/// A counter that follows one of the kernel's and never goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Rising {
    value: i64,
    /// `value` − the kernel's count.
    offset: i64,
}

impl Rising {
    const fn starting_at(value: i64) -> Self {
        Self { value, offset: 0 }
    }

    fn take(&mut self, raw: i64) {
        let count = raw.max(0).saturating_add(self.offset);
        if count >= self.value {
            self.value = count;
        } else {
            // the kernel's count began again: go on from here
            self.offset = self.value.saturating_sub(raw.max(0));
        }
    }
}

/// The counters of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meter {
    cpu: Rising,
    rx: Rising,
    tx: Rising,
    mem_byte_ms: i128,
    /// The memory reading before, with its `CLOCK_BOOTTIME` in milliseconds.
    before: Option<(i64, i64)>,
}

impl Meter {
    /// Goes on from the container's last record, or from zero.
    pub(super) fn from_record(record: Option<&Record>) -> Self {
        let (cpu, mem, rx, tx) = record.map_or((0, 0, 0, 0), |record| {
            (
                record.cum_cpu_ns,
                record.cum_mem_byte_s,
                record.cum_rx_bytes,
                record.cum_tx_bytes,
            )
        });
        Self {
            cpu: Rising::starting_at(cpu),
            rx: Rising::starting_at(rx),
            tx: Rising::starting_at(tx),
            mem_byte_ms: i128::from(mem) * 1_000,
            before: None,
        }
    }

    /// Takes a reading made at `boot_ms`.
    pub(super) fn take(&mut self, reading: &Reading, boot_ms: i64) {
        if let Some(raw) = reading.cpu_ns {
            self.cpu.take(raw);
        }
        if let Some((rx, tx)) = reading.net_bytes {
            self.rx.take(rx);
            self.tx.take(tx);
        }
        let Some(bytes) = reading.memory_bytes else {
            self.before = None;
            return;
        };
        if let Some((bytes_before, ms_before)) = self.before {
            let ms = boot_ms.saturating_sub(ms_before).max(0);
            // the mean of the two ends: never above the limit × time, since neither end is
            self.mem_byte_ms += (i128::from(bytes_before) + i128::from(bytes)) * i128::from(ms) / 2;
        }
        self.before = Some((bytes, boot_ms));
    }

    /// The container doesn't run: the time until the next reading adds nothing.
    pub(super) fn pause(&mut self) {
        self.before = None;
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            cpu_ns: self.cpu.value,
            mem_byte_s: i64::try_from(self.mem_byte_ms / 1_000).unwrap_or(i64::MAX),
            rx_bytes: self.rx.value,
            tx_bytes: self.tx.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(cpu_ns: i64, memory_bytes: i64) -> Reading {
        Reading {
            cpu_ns: Some(cpu_ns),
            memory_bytes: Some(memory_bytes),
            net_bytes: Some((0, 0)),
        }
    }

    #[test]
    fn memory_is_integrated_over_time_and_small_amounts_add_up() {
        let mut meter = Meter::from_record(None);
        // 1 byte for 10 s in steps of 1 ms: each step alone rounds to nothing
        for ms in 0..=10_000 {
            meter.take(&reading(0, 1), 5_000 + ms);
        }
        assert_eq!(meter.counters().mem_byte_s, 10);
        meter.take(&reading(0, 3), 17_000);
        assert_eq!(meter.counters().mem_byte_s, 14, "mean of 1 and 3 for 2 s");
    }

    #[test]
    fn time_without_a_look_adds_no_memory() {
        let mut meter = Meter::from_record(None);
        meter.take(&reading(0, 1_000), 0);
        meter.pause();
        meter.take(&reading(0, 1_000), 60_000);
        assert_eq!(meter.counters().mem_byte_s, 0);
        meter.take(&reading(0, 1_000), 61_000);
        assert_eq!(meter.counters().mem_byte_s, 1_000);
    }

    #[test]
    fn a_kernel_counter_that_starts_again_is_followed_from_there() {
        let mut meter = Meter::from_record(None);
        meter.take(&reading(1_000, 0), 0);
        meter.take(&reading(10, 0), 1_000);
        assert_eq!(meter.counters().cpu_ns, 1_000);
        meter.take(&reading(60, 0), 2_000);
        assert_eq!(meter.counters().cpu_ns, 1_050);
    }

    proptest! {
        #[test]
        fn counters_never_go_down_and_never_gain_more_than_the_kernels(
            steps in proptest::collection::vec((0_i64..1_000_000, 0_i64..1 << 40, 0_i64..100_000), 1..50),
        ) {
            let mut meter = Meter::from_record(None);
            let (mut before, mut raw_before, mut now) = (meter.counters(), 0, 0);
            for (raw, memory, ms) in steps {
                now += ms;
                meter.take(&reading(raw, memory), now);
                let counters = meter.counters();
                prop_assert!(counters.cpu_ns >= before.cpu_ns);
                prop_assert!(counters.mem_byte_s >= before.mem_byte_s);
                prop_assert!(counters.cpu_ns - before.cpu_ns <= (raw - raw_before).max(0));
                (before, raw_before) = (counters, raw);
            }
        }
    }
}
