//! The coordinator's clock as this node knows it.
//!
//! # Invariants
//! - It is kept as a distance to `CLOCK_BOOTTIME`, so that a step of this machine's wall clock doesn't matter.

use shared::{clock::Clock, time::Timestamp};

/// The coordinator's clock; this machine's wall clock until the first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerClock {
    /// The coordinator's time at `CLOCK_BOOTTIME` 0.
    at_boot: Option<Timestamp>,
}

impl ServerClock {
    /// Learns from an answer to a request that was sent and answered at these `CLOCK_BOOTTIME`s.
    #[must_use]
    pub const fn learned(server_time: Timestamp, sent_boot_ms: i64, received_boot_ms: i64) -> Self {
        let middle = sent_boot_ms + (received_boot_ms - sent_boot_ms) / 2;
        Self {
            at_boot: Some(server_time.plus_ms(-middle)),
        }
    }

    /// The coordinator's time now.
    #[must_use]
    pub fn now(&self, clock: &dyn Clock) -> Timestamp {
        self.at_boot
            .map_or_else(|| clock.now(), |at_boot| at_boot.plus_ms(clock.boot_ms()))
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::ManualClock;

    use super::*;

    #[test]
    fn it_follows_the_coordinator_whatever_the_wall_clock_does() {
        let wall = Timestamp::from_secs(1_000);
        let clock = ManualClock::starting_at(wall);
        assert_eq!(ServerClock::default().now(&clock), wall);
        let theirs = Timestamp::from_secs(50_000);
        let sent = clock.boot_ms();
        clock.advance_ms(200);
        let server = ServerClock::learned(theirs, sent, clock.boot_ms());
        assert_eq!(server.now(&clock), theirs.plus_ms(100));
        clock.step_wall_ms(-7_200_000);
        clock.advance_ms(1_000);
        assert_eq!(server.now(&clock), theirs.plus_ms(1_100));
    }
}
