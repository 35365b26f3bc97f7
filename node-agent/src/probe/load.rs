//! How busy the machine is: a few small reads of `/proc`, made with each beat.

use std::path::Path;

use shared::resources::{Inventory, Load};

/// Time that all processors together spent, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CpuTimes {
    busy: i64,
    total: i64,
}

pub(super) fn measure(root: &Path, before: &mut Option<CpuTimes>, inventory: &Inventory) -> Load {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let now = cpu_times(&text("proc/stat"));
    let cpu_busy_millis = busy_millis(*before, now);
    *before = now;
    Load {
        ram_available_bytes: available(&text("proc/meminfo")).unwrap_or_default(),
        cpu_busy_millis,
        load1_millis: thousandths(text("proc/loadavg").split(' ').next().unwrap_or_default())
            .unwrap_or_default(),
        disk_free_bytes: inventory
            .disks
            .iter()
            .map(|disk| free_bytes(Path::new(&disk.mount)))
            .collect(),
        gpus: Vec::new(),
        ..Load::default()
    }
}

/// Share of the time since `before` in which processors worked, in thousandths; since the machine's start when there is no `before`.
fn busy_millis(before: Option<CpuTimes>, now: Option<CpuTimes>) -> i64 {
    let Some(now) = now else { return 0 };
    let before = before.unwrap_or(CpuTimes { busy: 0, total: 0 });
    let total = now.total - before.total;
    if total <= 0 {
        return 0;
    }
    ((now.busy - before.busy).max(0).saturating_mul(1_000) / total).min(1_000)
}

/// First line of `/proc/stat`: `cpu user nice system idle iowait irq softirq steal guest guest_nice`.
fn cpu_times(stat: &str) -> Option<CpuTimes> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let mut ticks = [0_i64; 8];
    // guest time is part of user time already
    for (slot, text) in ticks.iter_mut().zip(line.split_ascii_whitespace()) {
        *slot = text.parse().ok()?;
    }
    let total = ticks.iter().sum::<i64>();
    Some(CpuTimes {
        busy: total - ticks[3] - ticks[4],
        total,
    })
}

fn available(meminfo: &str) -> Option<i64> {
    let kib: i64 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    kib.checked_mul(1024)
}

/// `1.25` → 1250.
fn thousandths(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    let whole: i64 = whole.parse().ok()?;
    whole.checked_mul(1_000)?.checked_add(digits.parse().ok()?)
}

/// Space that an unprivileged program could take; 0 once the disk can't be asked any more.
fn free_bytes(mount: &Path) -> i64 {
    rustix::fs::statvfs(mount).map_or(0, |stat| {
        i64::try_from(stat.f_bavail.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_kernel_are_read() {
        let stat = "cpu  100 0 50 800 50 0 0 0 30 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        let times = cpu_times(stat).expect("times");
        assert_eq!(
            times,
            CpuTimes {
                busy: 150,
                total: 1_000
            }
        );
        let later = CpuTimes {
            busy: 200,
            total: 1_100,
        };
        assert_eq!(busy_millis(Some(times), Some(later)), 500);
        assert_eq!(busy_millis(Some(later), Some(times)), 0);
        assert_eq!(
            available("MemTotal: 10 kB\nMemAvailable:       5 kB\n"),
            Some(5_120)
        );
        assert_eq!(thousandths("1.25"), Some(1_250));
        assert_eq!(thousandths("12"), Some(12_000));
        assert_eq!(thousandths("0.07"), Some(70));
        assert_eq!(thousandths(""), None);
    }
}
