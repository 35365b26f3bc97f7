//! Which images stay on the machine: a pure decision over what was fetched, how large it is and when it was used last.
//!
//! # Invariants
//! - What a container is made of stays, and what was used in the last [`FRESH_MS`]: its container may be about to be made.
//! - Those that were used longest ago go first, and no more of them than it takes.

use serde::{Deserialize, Serialize};
use shared::{
    image::{Digest, rules::ImageRules},
    time::Timestamp,
};

/// How long an image stays after it was used: its container may be about to be made.
pub const FRESH_MS: i64 = 10 * 60 * 1_000;

/// What the machine's owner decided about images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Which run here.
    pub rules: ImageRules,
    /// Most bytes of images that no rental uses and that are kept for the next one.
    pub cache_max_bytes: i64,
    /// What stays free of the disk that holds images.
    pub free_floor_bytes: i64,
    /// An image this young stays, whatever room is wanted: [`FRESH_MS`].
    pub fresh_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: ImageRules::default(),
            cache_max_bytes: 50 << 30,
            free_floor_bytes: 5 << 30,
            fresh_ms: FRESH_MS,
        }
    }
}

impl Settings {
    /// Checks bounds.
    ///
    /// # Errors
    /// Names what is out of them.
    pub fn check(&self) -> anyhow::Result<()> {
        if let Err((name, why)) = self.rules.check() {
            anyhow::bail!("{name}: {why}");
        }
        anyhow::ensure!(
            self.cache_max_bytes >= 0,
            "image_cache_max_bytes is {}; it may not be negative",
            self.cache_max_bytes
        );
        anyhow::ensure!(
            self.free_floor_bytes >= 0,
            "image_floor_bytes is {}; it may not be negative",
            self.free_floor_bytes
        );
        Ok(())
    }
}

/// An image that was fetched for a rental.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached {
    /// By which it was fetched.
    pub digest: Digest,
    /// What it takes on disk.
    pub bytes: i64,
    /// When a rental used it last.
    pub last_used: Timestamp,
    /// Whether a container is made of it.
    pub in_use: bool,
}

/// The images to remove, so that those that nobody uses stay below their limit and `lacking_bytes` more of the disk are free.
#[must_use]
pub fn surplus(
    images: &[Cached],
    settings: &Settings,
    lacking_bytes: i64,
    now: Timestamp,
) -> Vec<Digest> {
    let mut idle: Vec<&Cached> = images.iter().filter(|image| !image.in_use).collect();
    idle.sort_by_key(|image| (image.last_used, image.digest.clone()));
    let sum = |held: i64, image: &&Cached| held.saturating_add(image.bytes.max(0));
    let held = idle.iter().fold(0, sum);
    let over = held.saturating_sub(settings.cache_max_bytes);
    let mut wanted = over.max(lacking_bytes);
    let mut gone = Vec::new();
    for image in idle {
        if wanted <= 0 {
            break;
        }
        if now.ms_since(image.last_used) < settings.fresh_ms {
            continue;
        }
        wanted = wanted.saturating_sub(image.bytes.max(0));
        gone.push(image.digest.clone());
    }
    gone
}

/// How fast images come, from what was known and one more pull; what was too small to tell changes nothing.
#[must_use]
pub fn speed(known: Option<i64>, bytes: i64, took_ms: i64) -> Option<i64> {
    /// Less says more about the registry's answer time than about the line.
    const BYTES_MIN: i64 = 1 << 20;
    if bytes < BYTES_MIN || took_ms <= 0 {
        return known;
    }
    let seen = bytes.saturating_mul(1_000) / took_ms;
    Some(match known {
        // three quarters of what was known
        Some(known) => known.saturating_mul(3).saturating_add(seen) / 4,
        None => seen,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mangled::cases;

    const HOUR_MS: i64 = 3_600_000;

    fn now() -> Timestamp {
        Timestamp::from_secs(1_000_000)
    }

    fn image(name: &str, bytes: i64, idle_ms: i64) -> Cached {
        Cached {
            digest: Digest::of(name.as_bytes()),
            bytes,
            last_used: now().plus_ms(-idle_ms),
            in_use: false,
        }
    }

    fn settings(cache_max_bytes: i64) -> Settings {
        Settings {
            cache_max_bytes,
            ..Settings::default()
        }
    }

    fn names(gone: &[Digest], of: &[Cached]) -> Vec<usize> {
        let place = |digest: &Digest| of.iter().position(|image| image.digest == *digest);
        gone.iter().filter_map(place).collect()
    }

    #[test]
    fn who_was_used_longest_ago_goes_first_and_no_more_than_it_takes() {
        let images = [
            image("new", 10, HOUR_MS),
            image("oldest", 10, 4 * HOUR_MS),
            Cached {
                in_use: true,
                ..image("runs", 10, 9 * HOUR_MS)
            },
            image("old", 10, 3 * HOUR_MS),
            image("fresh", 10, FRESH_MS - 1),
        ];
        let gone =
            |most, lacking| names(&surplus(&images, &settings(most), lacking, now()), &images);
        // forty bytes are idle: what runs doesn't count
        assert_eq!(gone(40, 0), [0_usize; 0]);
        assert_eq!(gone(39, 0), [1]);
        assert_eq!(gone(25, 0), [1, 3]);
        assert_eq!(gone(0, 0), [1, 3, 0]);
        assert_eq!(gone(100, 15), [1, 3]);
        assert_eq!(gone(100, i64::MAX), [1, 3, 0]);
        assert_eq!(gone(100, -1), [0_usize; 0]);
    }

    #[test]
    fn speed_follows_slowly_and_small_pulls_say_nothing() {
        assert_eq!(speed(None, 100, 1_000), None);
        assert_eq!(speed(None, 8 << 20, 2_000), Some(4 << 20));
        assert_eq!(speed(Some(4_000_000), 8_000_000, 1_000), Some(5_000_000));
        assert_eq!(speed(Some(7), 8_000_000, 0), Some(7));
    }

    #[test]
    fn settings_have_bounds() {
        settings(0).check().expect("fine");
        settings(-1).check().expect_err("refused");
    }

    proptest! {
        #![proptest_config(cases(200))]

        #[test]
        fn nothing_that_is_used_or_fresh_ever_goes(
            sizes in prop::collection::vec((0..100_i64, 0..24 * HOUR_MS, any::<bool>()), 0..30),
            most in 0..1_000_i64,
            lacking in -10..1_000_i64,
        ) {
            let images: Vec<Cached> = sizes.iter().enumerate().map(|(at, (bytes, idle_ms, in_use))| Cached {
                in_use: *in_use,
                ..image(&at.to_string(), *bytes, *idle_ms)
            }).collect();
            let gone = surplus(&images, &settings(most), lacking, now());
            for at in names(&gone, &images) {
                prop_assert!(!images[at].in_use && now().ms_since(images[at].last_used) >= FRESH_MS);
            }
            let held = |kept: bool| images.iter()
                .filter(|image| !image.in_use && gone.contains(&image.digest) != kept)
                .map(|image| image.bytes).sum::<i64>();
            // without the last one that went, not enough would have gone
            if let Some(last) = gone.last() {
                let last = images.iter().find(|image| image.digest == *last).expect("one of them").bytes;
                let freed = held(false) - last;
                prop_assert!(freed < lacking || held(true) + last > most);
            }
        }
    }
}
