//! Random moments from a seed.

use std::{ops::Range, time::Duration};

use shared::clock::{Clock as _, SystemClock};
use system_tests::wait;

/// Moments of `make test`; `make test-full` takes [`FULL`].
const REDUCED: u32 = 5;
const FULL: u32 = 20;

/// Where the random numbers of one test come from (SplitMix64).
#[derive(Debug)]
pub(crate) struct Chance {
    state: u64,
}

/// Whether the full counts are asked for.
pub(crate) fn is_full() -> bool {
    std::env::var_os("TEST_FULL").is_some_and(|value| value == "1")
}

impl Chance {
    /// Of `FAULTS_SEED` if it is set, else of the clock. Says which, and how often the test will do what it does.
    pub(crate) fn new(test: &str) -> Self {
        let given = std::env::var_os("FAULTS_SEED")
            .map(|seed| seed.to_string_lossy().parse().expect("a number"));
        let state: u64 =
            given.unwrap_or_else(|| SystemClock.now().as_micros().unsigned_abs() % 1_000_000_007);
        eprintln!(
            "{test}: seed {state} (FAULTS_SEED), {} random moments{}",
            Self::moments(),
            if is_full() {
                ""
            } else {
                "; make test-full takes 20"
            }
        );
        Self { state }
    }

    /// How many moments a test takes.
    pub(crate) fn moments() -> u32 {
        if is_full() { FULL } else { REDUCED }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let count = u64::try_from(choices.len()).expect("a count");
        choices[usize::try_from(self.next() % count).expect("an index")]
    }

    /// A duration within `range`, milliseconds.
    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        let span = range.end - range.start;
        Duration::from_millis(range.start + self.next() % span)
    }

    /// Waits for a random moment within `range`, milliseconds from now.
    pub(crate) async fn moment(&mut self, range: Range<u64>) {
        wait::pass(self.millis(range)).await;
    }
}
