//! The one place that reads a clock: [`Clock`], its system form, and one that tests move by hand.
//!
//! # Invariants
//! - `boot_ms` is `CLOCK_BOOTTIME`: it never jumps and goes on in suspend, so a lease can't be slept through.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use crate::time::Timestamp;

/// A source of time, passed in so that decisions can be tested.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock, UTC.
    fn now(&self) -> Timestamp;
    /// Milliseconds since this machine started, suspend included.
    fn boot_ms(&self) -> i64;
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let wall = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp::from_micros(
            wall.tv_sec
                .saturating_mul(1_000_000)
                .saturating_add(wall.tv_nsec / 1_000),
        )
    }

    fn boot_ms(&self) -> i64 {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        boot.tv_sec
            .saturating_mul(1_000)
            .saturating_add(boot.tv_nsec / 1_000_000)
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Clone)]
pub struct ManualClock {
    wall_us: Arc<AtomicI64>,
    boot_ms: Arc<AtomicI64>,
}

impl ManualClock {
    /// Starts at `now`, one hour after boot.
    #[must_use]
    pub fn starting_at(now: Timestamp) -> Self {
        Self {
            wall_us: Arc::new(AtomicI64::new(now.as_micros())),
            boot_ms: Arc::new(AtomicI64::new(3_600_000)),
        }
    }

    /// Moves both clocks forward.
    pub fn advance_ms(&self, ms: i64) {
        self.wall_us
            .fetch_add(ms.saturating_mul(1_000), Ordering::SeqCst);
        self.boot_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Moves only the wall clock, as an administrator or NTP would.
    pub fn step_wall_ms(&self, ms: i64) {
        self.wall_us
            .fetch_add(ms.saturating_mul(1_000), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.wall_us.load(Ordering::SeqCst))
    }

    fn boot_ms(&self) -> i64 {
        self.boot_ms.load(Ordering::SeqCst)
    }
}
