//! What the machine says about itself and about processes: disk probe, load, processor time, resident memory.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use shared::time::Timestamp;
use tokio::time::Instant;

use crate::figures::Series;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(90);
const PROBE_WRITES: u32 = 40;

/// One line: processors, memory, kernel, load.
pub(crate) fn described() -> Result<String> {
    let cpus = std::thread::available_parallelism()?;
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().next().unwrap_or_default().trim();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "machine: {cpus} processors, {total}, Linux {}, load {}",
        kernel.trim(),
        load()?
    ))
}

/// Load averages of 1, 5 and 15 minutes.
pub(crate) fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let averages: Vec<&str> = text.split_whitespace().take(3).collect();
    Ok(averages.join(" "))
}

/// Milliseconds of a `fdatasync` after overwriting 4 KiB, in the middle of several.
pub(crate) fn fsync_ms(folder: &Path) -> Result<f64> {
    let path = folder.join("fsync-probe");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("can't write {}", path.display()))?;
    let page = [7; 4_096];
    file.write_all_at(&page, 0)?;
    file.sync_all()?;
    let mut took = Vec::new();
    for _ in 0..PROBE_WRITES {
        let begun = Instant::now();
        file.write_all_at(&page, 0)?;
        file.sync_data()?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Series::new("fdatasync", "ms", took).median())
}

/// Processor time of this thread, milliseconds.
pub(crate) fn thread_cpu_ms() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(now.tv_nsec).map_or(0.0, f64::from);
    u32::try_from(now.tv_sec).map_or(f64::NAN, f64::from) * 1e3 + nanos / 1e6
}

/// Processor time of a process, user and system, milliseconds (in steps of the kernel's clock tick).
pub(crate) fn process_cpu_ms(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // the name before may hold spaces and parentheses
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| -> Result<u32> {
        let field = fields.get(at).context("too few fields in stat")?;
        Ok(field.parse()?)
    };
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(f64::from(ticks(11)? + ticks(12)?) * 1e3 / f64::from(per_second))
}

/// Resident memory of a process, MiB: all, and the part that no file stands behind.
pub(crate) fn rss_mib(pid: u32) -> Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        let kib: u32 = number.with_context(|| format!("no {name}"))?.parse()?;
        Ok(f64::from(kib) / 1_024.0)
    };
    Ok((kib("VmRSS:")?, kib("RssAnon:")?))
}

/// Milliseconds from one wall-clock moment to a later one.
pub(crate) fn ms_between(from: Timestamp, to: Timestamp) -> f64 {
    let micros = to.as_micros() - from.as_micros();
    i32::try_from(micros).map_or(f64::NAN, f64::from) / 1e3
}

/// Asks again and again until there is an answer; fails when that takes too long.
pub(crate) async fn until<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let asking = async {
        let mut again = tokio::time::interval(Duration::from_millis(50));
        loop {
            again.tick().await;
            if let Some(found) = ask().await? {
                return Ok(found);
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .with_context(|| format!("waited in vain until {what}"))?
}

/// A folder of this run's own. It is removed with [`Folder::remove`]; a failed run leaves it to be looked at.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path =
            std::env::temp_dir().join(format!("ramarket-bench-{}-{name}", std::process::id()));
        ensure!(!path.exists(), "{} is there already", path.display());
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(&self.0).with_context(|| format!("remove {}", self.0.display()))
    }
}
