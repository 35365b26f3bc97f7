//! The open files of one running container.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{
    cgroup::{self, CpuFile},
    counters::Reading,
    net,
};

/// Open files; each `read` starts at the beginning, where the kernel makes the text anew.
#[derive(Debug)]
pub(super) struct Files {
    cpu: File,
    cpu_is_stat: bool,
    memory: File,
    net: Option<File>,
    oom: Option<File>,
}

impl Files {
    pub(super) fn open(root: &Path, pid: i32, container_id: &str) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let open = |path: &Path| {
            File::open(path).with_context(|| format!("{} can't be opened", path.display()))
        };
        let files = cgroup::locate(root, pid, container_id)?;
        let (cpu, cpu_is_stat) = match &files.cpu {
            CpuFile::Nanoseconds(path) => (open(path)?, false),
            CpuFile::Stat(path) => (open(path)?, true),
        };
        let memory = open(&files.memory)?;
        let net = File::open(root.join(format!("proc/{pid}/net/dev"))).ok();
        let oom = File::open(&files.oom).ok();
        // the process may have died and its number been given away between the two: look again, now that all is open
        cgroup::locate(root, pid, container_id)?;
        Ok(Self {
            cpu,
            cpu_is_stat,
            memory,
            net,
            oom,
        })
    }

    /// Processes that the kernel killed for want of memory.
    pub(super) fn oom_kills(&self, buffer: &mut Vec<u8>) -> Option<i64> {
        killed(text(self.oom.as_ref()?, buffer)?)
    }

    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> Reading {
        let cpu_is_stat = self.cpu_is_stat;
        Reading {
            cpu_ns: text(&self.cpu, buffer).and_then(|text| {
                if cpu_is_stat {
                    usage_usec(text).and_then(|us| us.checked_mul(1_000))
                } else {
                    text.trim().parse().ok()
                }
            }),
            memory_bytes: text(&self.memory, buffer).and_then(|text| text.trim().parse().ok()),
            net_bytes: self
                .net
                .as_ref()
                .and_then(|file| text(file, buffer))
                .and_then(net::parse),
        }
    }
}

/// `oom_kill 3`, of `memory.events` and of `memory.oom_control`; older kernels of version 1 don't have it.
fn killed(text: &str) -> Option<i64> {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
}

/// What an open file says now; `None` when it can't be read (the group is gone).
fn text<'a>(file: &File, buffer: &'a mut Vec<u8>) -> Option<&'a str> {
    const BYTES_MAX: usize = 1 << 20;
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            if filled >= BYTES_MAX {
                return None;
            }
            buffer.resize(filled * 2, 0);
        }
        let at = u64::try_from(filled).ok()?;
        match file.read_at(&mut buffer[filled..], at) {
            Ok(0) => return std::str::from_utf8(&buffer[..filled]).ok(),
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn usage_usec(stat: &str) -> Option<i64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("usage_usec "))
        .and_then(|text| text.trim().parse().ok())
}
