//! What rentals used over time: each 10 s of the last hour in memory, each 5 min of a rental's life in a file of its own; when it ends, its
//! last hour too.
//!
//! # Invariants
//! - Nothing is measured for this: it takes what the meter read.
//! - A file is bounded ([`FILE_BYTES_MAX`]): when it is full, every second sample of it goes. It outlives its rental by [`KEEP_MS`], unless
//!   all files together have more than [`FOLDER_BYTES_MAX`]: then the oldest go first.
//! - A disk that refuses costs samples of the past and nothing else.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use shared::{
    id::RentalId,
    link::open::{GpuSample, Sample},
    time::Timestamp,
};
use tokio::sync::watch;

use crate::{durable, measure::Used, runtime::DiskUse};

/// Between samples of the last hour, less what a tick may be early.
const FINE_MS: i64 = 9_000;
/// Of an hour.
const FINE_MAX: usize = 360;
/// Between samples of a rental's life, less what a tick may be early.
const COARSE_MS: i64 = 299_000;
/// A file that is longer is thinned out.
pub const FILE_BYTES_MAX: usize = 2 << 20;
/// How long a rental's file is kept after its last sample.
const KEEP_MS: i64 = 7 * 24 * 3_600_000;
/// Of all files together.
const FOLDER_BYTES_MAX: u64 = 256 << 20;
/// How often files are looked through for those.
const SWEEP_MS: i64 = 3_600_000;
const MODE: u32 = 0o600;

/// What all rentals used.
#[derive(Debug)]
pub struct Samples {
    folder: PathBuf,
    kept: Mutex<Kept>,
    /// Counts what was taken.
    turned: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    rentals: HashMap<RentalId, Series>,
    /// What each takes of the disk, as it was heard last.
    disks: HashMap<RentalId, i64>,
    swept: Option<Timestamp>,
}

/// One rental's.
#[derive(Debug, Default)]
struct Series {
    fine: VecDeque<Sample>,
    written: Option<Timestamp>,
}

impl Samples {
    /// With files in this folder, which is made if it isn't there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn open(folder: PathBuf) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("{} can't be made", folder.display()))?;
        Ok(Self {
            folder,
            kept: Mutex::default(),
            turned: watch::Sender::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, rental_id: RentalId) -> PathBuf {
        self.folder.join(format!("{rental_id}.jsonl"))
    }

    /// Notes what rentals take of the disk from now on.
    pub fn note_disks(&self, disks: &[DiskUse]) {
        self.lock().disks = disks.iter().map(|one| (one.rental_id, one.bytes)).collect();
    }

    /// Takes what a pass measured at `at`; rentals that aren't among it are over.
    pub fn take(&self, at: Timestamp, used: &[Used], gpus: &BTreeMap<RentalId, Vec<GpuSample>>) {
        let over = self.lock().end_all_but(used);
        for (rental_id, fine) in over {
            self.told(rental_id, self.close(rental_id, &fine));
        }
        let mut due = Vec::new();
        for one in used {
            let mut kept = self.lock();
            let sample = Sample {
                at,
                cpu_ns: one.counters.cpu_ns,
                ram_bytes: one.ram_bytes,
                rx_bytes: one.counters.rx_bytes,
                tx_bytes: one.counters.tx_bytes,
                disk_bytes: kept.disks.get(&one.rental_id).copied(),
                gpus: gpus.get(&one.rental_id).cloned().unwrap_or_default(),
            };
            let series = kept.rentals.entry(one.rental_id).or_default();
            due.extend(series.take(sample).map(|sample| (one.rental_id, sample)));
        }
        for (rental_id, sample) in due {
            self.told(rental_id, self.append(rental_id, &sample));
        }
        if let Err(error) = self.sweep(at) {
            tracing::warn!(%error, "what rentals used long ago can't be removed");
        }
        self.turned.send_modify(|turns| *turns += 1);
    }

    fn told(&self, rental_id: RentalId, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::warn!(rental.id = %rental_id, %error, "what a rental used can't be written; check the space of the agent's folder");
        }
    }

    /// Writes all that is known of a rental that is over, durably.
    fn close(&self, rental_id: RentalId, fine: &VecDeque<Sample>) -> io::Result<()> {
        let mut lines = Vec::new();
        for sample in self.before(rental_id, fine.iter().cloned()) {
            let mut line = serde_json::to_vec(&sample)?;
            line.push(b'\n');
            lines.push(line);
        }
        while lines.iter().map(Vec::len).sum::<usize>() > FILE_BYTES_MAX {
            // the last one stays
            lines = lines.into_iter().rev().step_by(2).collect();
            lines.reverse();
        }
        durable::replace(&self.path(rental_id), &lines.concat(), MODE)
    }

    fn append(&self, rental_id: RentalId, sample: &Sample) -> io::Result<()> {
        let path = self.path(rental_id);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(MODE)
            .open(&path)?;
        let mut line = serde_json::to_vec(sample)?;
        line.push(b'\n');
        file.write_all(&line)?;
        let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
        if length <= FILE_BYTES_MAX {
            return Ok(());
        }
        let text = std::fs::read(&path)?;
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let thin: Vec<&[u8]> = lines.skip(1).step_by(2).collect();
        durable::replace(&path, &thin.concat(), MODE)
    }

    /// Removes files of rentals that were over long ago, from time to time.
    fn sweep(&self, at: Timestamp) -> io::Result<()> {
        {
            let mut kept = self.lock();
            let is_due = kept.swept.is_none_or(|last| at.ms_since(last) >= SWEEP_MS);
            if !is_due {
                return Ok(());
            }
            kept.swept = Some(at);
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            let changed = facts.modified()?.duration_since(UNIX_EPOCH);
            let changed_s = changed.map_or(0, |since| since.as_secs());
            let changed = Timestamp::from_secs(i64::try_from(changed_s).unwrap_or(i64::MAX));
            found.push((changed, facts.len(), entry.path()));
        }
        found.sort();
        let mut bytes: u64 = found.iter().map(|(_, bytes, _)| bytes).sum();
        for (changed, length, path) in found {
            if at.ms_since(changed) <= KEEP_MS && bytes <= FOLDER_BYTES_MAX {
                break;
            }
            std::fs::remove_file(path)?;
            bytes -= length;
        }
        Ok(())
    }

    /// Whether anything is known of a rental.
    #[must_use]
    pub fn has(&self, rental_id: RentalId) -> bool {
        self.lock().rentals.contains_key(&rental_id) || self.path(rental_id).is_file()
    }

    /// All that is known of a rental, oldest first. Reads a file.
    #[must_use]
    pub fn of(&self, rental_id: RentalId) -> Vec<Sample> {
        let fine = self.fine_after(rental_id, None);
        self.before(rental_id, fine.into_iter())
    }

    /// What is in a rental's file from before `fine`, then that.
    fn before(&self, rental_id: RentalId, fine: impl Iterator<Item = Sample>) -> Vec<Sample> {
        let mut fine = fine.peekable();
        let from = fine.peek().map(|sample| sample.at);
        let text = std::fs::read_to_string(self.path(rental_id)).unwrap_or_default();
        // a line that was cut by a crash is none
        let coarse = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let before = |sample: &Sample| from.is_none_or(|from| sample.at < from);
        coarse.filter(before).chain(fine).collect()
    }

    /// The samples of the last hour, after a moment.
    #[must_use]
    pub fn fine_after(&self, rental_id: RentalId, after: Option<Timestamp>) -> Vec<Sample> {
        let kept = self.lock();
        let fine = kept.rentals.get(&rental_id).map(|series| &series.fine);
        let newest_first = fine.into_iter().flatten().rev();
        let is_new = |sample: &&Sample| after.is_none_or(|after| sample.at > after);
        let mut new: Vec<Sample> = newest_first.take_while(is_new).cloned().collect();
        new.reverse();
        // of before a clock was set back
        let back = fine.and_then(VecDeque::back);
        let back = back.filter(|back| after.is_some_and(|after| back.at < after));
        new.extend(back.cloned());
        new
    }

    /// Whether a rental is measured now.
    #[must_use]
    pub fn is_measured(&self, rental_id: RentalId) -> bool {
        self.lock().rentals.contains_key(&rental_id)
    }

    /// Changes whenever something was taken.
    #[must_use]
    pub fn turned(&self) -> watch::Receiver<u64> {
        self.turned.subscribe()
    }
}

impl Kept {
    /// Forgets the others, and returns the last hour of each.
    fn end_all_but(&mut self, used: &[Used]) -> Vec<(RentalId, VecDeque<Sample>)> {
        let is_over = |id: &RentalId| !used.iter().any(|one| one.rental_id == *id);
        let over = self.rentals.extract_if(|id, _| is_over(id));
        over.map(|(id, series)| (id, series.fine)).collect()
    }
}

impl Series {
    /// Takes a sample if it is time for one; returns it if it is to be written.
    fn take(&mut self, sample: Sample) -> Option<Sample> {
        // a clock that was set back would make all the time until then again seem early
        let early = |last: &Sample| (0..FINE_MS).contains(&sample.at.ms_since(last.at));
        if self.fine.back().is_some_and(early) {
            return None;
        }
        if self.fine.len() >= FINE_MAX {
            self.fine.pop_front();
        }
        self.fine.push_back(sample.clone());
        let is_due = self
            .written
            .is_none_or(|last| !(0..COARSE_MS).contains(&sample.at.ms_since(last)));
        is_due.then(|| {
            self.written = Some(sample.at);
            sample
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        clock::{Clock as _, SystemClock},
        id::Ids,
    };

    use super::*;
    use crate::{journal::Counters, testing::TempDir};

    fn used(rental_id: RentalId, cpu_ns: i64) -> Used {
        Used {
            rental_id,
            counters: Counters {
                cpu_ns,
                ..Counters::default()
            },
            ram_bytes: Some(7),
        }
    }

    #[test]
    fn the_last_hour_is_fine_and_the_rest_is_coarse_and_outlives_the_agent() {
        let home = TempDir::new();
        let samples = Samples::open(home.path().to_owned()).expect("opened");
        let (rental_id, other) = (Ids::System.mint(), Ids::System.mint());
        // files carry this machine's own time
        let start = SystemClock.now().as_secs();
        // two hours at 5 s
        for tick in 0..1_440_i64 {
            let at = Timestamp::from_secs(start + 5 * tick);
            samples.take(at, &[used(rental_id, tick)], &BTreeMap::new());
        }
        let told = samples.of(rental_id);
        assert_eq!(samples.fine_after(rental_id, None).len(), FINE_MAX);
        assert_eq!(told.len(), FINE_MAX + 12);
        assert!(told.is_sorted_by_key(|sample| sample.at));
        assert_eq!(told.last().map(|sample| sample.cpu_ns), Some(1_438));
        assert!(samples.is_measured(rental_id) && !samples.has(other));
        assert!(told.iter().all(|sample| sample.disk_bytes.is_none()));
        samples.take(Timestamp::from_secs(start + 7_200), &[], &BTreeMap::new());
        assert!(!samples.is_measured(rental_id));
        let again = Samples::open(home.path().to_owned()).expect("opened");
        let told = again.of(rental_id);
        assert_eq!(told.len(), FINE_MAX + 12, "the last hour too");
        assert_eq!(told.last().map(|sample| sample.cpu_ns), Some(1_438));
        // measured once more, as after a container that couldn't be read for a moment
        let at = Timestamp::from_secs(start + 7_210);
        let bytes = 4_096;
        again.note_disks(&[DiskUse { rental_id, bytes }]);
        again.take(at, &[used(rental_id, 1_442)], &BTreeMap::new());
        let last = again.of(rental_id).pop().expect("a sample");
        assert_eq!(last.disk_bytes, Some(4_096));
        assert_eq!(again.of(rental_id).len(), FINE_MAX + 13);
        again.take(Timestamp::from_secs(start + 7_220), &[], &BTreeMap::new());
        assert_eq!(again.of(rental_id).len(), FINE_MAX + 13);
    }

    #[test]
    fn a_file_is_thinned_out_and_goes_in_its_time() {
        let home = TempDir::new();
        let samples = Samples::open(home.path().to_owned()).expect("opened");
        let rental_id = Ids::System.mint();
        let line = "x".repeat(1_023) + "\n";
        std::fs::write(samples.path(rental_id), line.repeat(FILE_BYTES_MAX / 1_024))
            .expect("written");
        let at = SystemClock.now();
        samples.take(at, &[used(rental_id, 1)], &BTreeMap::new());
        let bytes = std::fs::metadata(samples.path(rental_id))
            .expect("there")
            .len();
        assert!(bytes < 1 << 20 | 1_024, "{bytes}");
        assert_eq!(samples.of(rental_id).len(), 1);
        let later = Timestamp::from_secs(4_000_000_000);
        samples.take(later, &[], &BTreeMap::new());
        assert!(!samples.path(rental_id).exists());
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let home = TempDir::new();
        let samples = Samples::open(home.path().to_owned()).expect("opened");
        let rental_id = Ids::System.mint();
        let start = SystemClock.now().as_secs();
        for (tick, at) in [start, start - 3_600, start - 3_599, start - 3_590]
            .into_iter()
            .enumerate()
        {
            let cpu_ns = i64::try_from(tick).expect("few");
            let at = Timestamp::from_secs(at);
            samples.take(at, &[used(rental_id, cpu_ns)], &BTreeMap::new());
        }
        let fine = samples.fine_after(rental_id, None);
        let taken: Vec<i64> = fine.iter().map(|sample| sample.cpu_ns).collect();
        assert_eq!(taken, [0, 1, 3], "one came too early");
        let after = |seconds| {
            let new = samples.fine_after(rental_id, Some(Timestamp::from_secs(seconds)));
            new.iter().map(|sample| sample.cpu_ns).collect::<Vec<_>>()
        };
        // who follows goes on too
        assert_eq!(after(start), [3]);
        assert_eq!(after(start - 3_600), [3]);
        assert!(after(start - 3_590).is_empty());
    }
}
