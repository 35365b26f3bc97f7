//! Samples and journals: at each interval, and at once when a rental changes. Doesn't know whether the coordinator can be reached.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use shared::{resources::Inventory, wire::observed::Phase};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared, gpus, lock,
    meter::{Due, sample_pass},
    samples::Samples,
};
use crate::{journal::Moment, probe::Prober, rental::LiveRental};

/// How often progress of a pull is worth a beat.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How often old records are looked for, milliseconds.
const PRUNE_EVERY_MS: i64 = 60_000;

pub(super) struct Ticker {
    pub(super) shared: Shared,
    pub(super) prober: Arc<Mutex<Prober>>,
    /// Where what rentals used goes for whoever rents.
    pub(super) samples: Arc<Samples>,
    /// What the machine has, as it was measured last.
    pub(super) inventory: watch::Receiver<Arc<Inventory>>,
    pub(super) beacon: watch::Receiver<String>,
    pub(super) interval_ms: watch::Receiver<i64>,
    pub(super) last_pass: watch::Sender<i64>,
    pub(super) keep_ms: i64,
    pub(super) pruned_boot_ms: i64,
}

impl Ticker {
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut live = self.shared.rentals.live();
        let mut before = live.borrow_and_update().clone();
        let mut next_tick = Instant::now();
        let mut progress_due: Option<Instant> = None;
        let mut reconciler_runs = true;
        loop {
            let progress = progress_due.unwrap_or(next_tick);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(next_tick) => {
                    self.pass(&live, Due::Tick).await;
                    next_tick = Instant::now() + self.interval();
                }
                changed = self.interval_ms.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    next_tick = next_tick.min(Instant::now() + self.interval());
                }
                () = sleep_until(progress), if progress_due.is_some() => {
                    progress_due = None;
                    self.shared.sampled.notify_one();
                }
                changed = live.changed(), if reconciler_runs => {
                    reconciler_runs = changed.is_ok();
                    let now = live.borrow_and_update().clone();
                    if same_but_for_progress(&before, &now) {
                        progress_due.get_or_insert_with(|| Instant::now() + PROGRESS_EVERY);
                    } else {
                        self.pass(&live, Due::Change).await;
                    }
                    before = now;
                }
            }
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(u64::try_from(*self.interval_ms.borrow()).unwrap_or(5_000))
    }

    async fn pass(&mut self, live: &watch::Receiver<Vec<LiveRental>>, due: Due) {
        let rentals = live.borrow().clone();
        if due == Due::Tick {
            self.look_at_gpus(&rentals).await;
        }
        let faulty = gpus::faulty(&rentals, &self.shared.gpus.borrow());
        let boot_ms = self.shared.clock.boot_ms();
        let mut moment = Moment {
            beacon: self.beacon.borrow().clone(),
            t_wall: self.shared.clock.now(),
            t_boot_ms: boot_ms,
        };
        let prune_before = (boot_ms - self.pruned_boot_ms >= PRUNE_EVERY_MS).then(|| {
            self.pruned_boot_ms = boot_ms;
            moment.t_wall.plus_ms(-self.keep_ms)
        });
        let samples = (due == Due::Tick).then(|| {
            let gpus = gpus::samples(&rentals, &self.shared.gpus.borrow());
            (Arc::clone(&self.samples), gpus)
        });
        let at = moment.t_wall;
        let done = self
            .shared
            .with_meter(move |meter| {
                if moment.beacon.is_empty() {
                    // a record without a beacon is worth nothing, and the chain couldn't be mended after it: after a restart the
                    // beacon of before holds, and who never had one begins after the first answer
                    let Some(beacon) = meter.journal().last_beacon()? else {
                        return Ok(0);
                    };
                    moment.beacon = beacon;
                }
                sample_pass(meter, &rentals, &faulty, &moment, due)?;
                if let Some((samples, gpus)) = samples {
                    samples.take(at, &meter.used(), &gpus);
                }
                prune_before.map_or(Ok(0), |before| meter.prune(before))
            })
            .await;
        let fault = match done {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(format!("a sampling pass failed: {error:#}")),
        };
        self.tell(fault);
        self.last_pass.send_replace(self.shared.clock.boot_ms());
        self.shared.sampled.notify_one();
    }

    /// Asks the GPUs how they are; not at all on a machine that has none and rents none out.
    async fn look_at_gpus(&self, rentals: &[LiveRental]) {
        let has_some = !self.inventory.borrow().gpus.is_empty();
        if !has_some && rentals.iter().all(|rental| rental.gpus.is_empty()) {
            return;
        }
        let prober = Arc::clone(&self.prober);
        match tokio::task::spawn_blocking(move || lock(&prober).gpus()).await {
            Ok(gpus) => {
                self.shared.gpus.send_replace(gpus);
            }
            Err(error) => tracing::warn!(%error, "the GPUs can't be looked at"),
        }
    }

    /// Logs when metering stops and when it goes on.
    fn tell(&self, fault: Option<String>) {
        self.shared.metering_fault.send_if_modified(|said| {
            if *said == fault {
                return false;
            }
            match &fault {
                Some(error) => tracing::error!(error, "metering stands still"),
                None => tracing::info!("metering goes on"),
            }
            *said = fault;
            true
        });
    }
}

/// Whether nothing changed but how far a start is that has no container yet. A beat for that would compete with the start itself; what
/// takes longer than [`PROGRESS_EVERY`] is told.
fn same_but_for_progress(before: &[LiveRental], now: &[LiveRental]) -> bool {
    let begins = |rental: &LiveRental| {
        let phase = &rental.observed.phase;
        rental.observed.container_id.is_none()
            && matches!(
                phase,
                Phase::Pending | Phase::Pulling { .. } | Phase::Starting
            )
    };
    let same_lease = |a: &LiveRental, b: &LiveRental| {
        a.observed.rental_id == b.observed.rental_id && a.observed.lease_id == b.observed.lease_id
    };
    let gone = |old: &&LiveRental| !now.iter().any(|new| same_lease(old, new));
    let is_news = |new: &&LiveRental| {
        let old = before.iter().find(|old| same_lease(old, new));
        old != Some(*new) && !(begins(new) && old.is_none_or(begins))
    };
    !before.iter().any(|old| gone(&old)) && !now.iter().any(|new| is_news(&new))
}

#[cfg(test)]
mod tests {
    use shared::{
        id::Ids,
        wire::observed::{ObservedRental, Phase},
    };

    use super::*;

    fn rental(phase: Phase) -> LiveRental {
        LiveRental {
            observed: ObservedRental {
                rental_id: Ids::System.mint(),
                lease_id: Ids::System.mint(),
                phase,
                container_id: None,
                image_digest: None,
                started_at: None,
                finished_at: None,
            },
            spec_sha256: String::new(),
            pid: None,
            gpus: Vec::new(),
        }
    }

    fn later(rental: &LiveRental, phase: Phase) -> LiveRental {
        let mut later = rental.clone();
        later.observed.phase = phase;
        later
    }

    #[test]
    fn steps_of_a_start_can_wait_and_nothing_else() {
        let new = rental(Phase::Pending);
        let pulling = Phase::Pulling {
            done_bytes: 1,
            total_bytes: 2,
        };
        let can_wait = |before: &[&LiveRental], now: &[&LiveRental]| {
            let owned = |all: &[&LiveRental]| all.iter().copied().cloned().collect::<Vec<_>>();
            same_but_for_progress(&owned(before), &owned(now))
        };
        let other = later(&rental(Phase::Running), Phase::Running);
        assert!(can_wait(&[&other], &[&new, &other]));
        let (pulling, starting) = (later(&new, pulling), later(&new, Phase::Starting));
        assert!(can_wait(&[&new], &[&pulling]));
        assert!(can_wait(&[&pulling], &[&starting]));
        assert!(!can_wait(&[&starting], &[&later(&new, Phase::Running)]));
        assert!(!can_wait(&[&starting], &[]));
        let failed = Phase::Failed {
            code: "x".to_owned(),
            reason: "y".to_owned(),
        };
        assert!(!can_wait(&[&starting], &[&later(&new, failed.clone())]));
        assert!(!can_wait(&[], &[&later(&new, failed)]));
        let mut created = starting.clone();
        created.observed.container_id = Some("c".to_owned());
        assert!(!can_wait(&[&starting], &[&created]), "the journal says it");
        assert!(!can_wait(&[&other], &[&later(&other, Phase::Stopping)]));
    }
}
