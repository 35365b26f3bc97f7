//! Finds the files in which the kernel counts for a process's control group: version 1, version 2, and machines with both,
//! where each controller may live in either.
//!
//! # Invariants
//! - Paths are taken from the kernel's own account (`/proc/<pid>/cgroup` and `mountinfo`), never guessed.
//! - A version 1 hierarchy of a controller wins over version 2: the kernel has each controller in one place only, and on a hybrid
//!   machine version 2 is mounted without it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Longest of the two files that is read.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Where a process's CPU time is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpuFile {
    /// Version 1, `cpuacct.usage`: nanoseconds.
    Nanoseconds(PathBuf),
    /// Version 2, `cpu.stat`: has a line `usage_usec`.
    Stat(PathBuf),
}

/// The files of one control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFiles {
    /// CPU time.
    pub cpu: CpuFile,
    /// Memory in use, bytes.
    pub memory: PathBuf,
    /// Has a line `oom_kill`: processes that were killed for want of memory.
    pub oom: PathBuf,
}

/// The hierarchies that are mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mounts(Vec<Mount>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Which group is mounted there: `/` unless a container sees only its own.
    group: String,
    point: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// With its controllers.
    V1(Vec<String>),
    V2,
}

impl Mounts {
    /// Reads `<root>/proc/self/mountinfo`.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let text = read_text(&root.join("proc/self/mountinfo"))?;
        Ok(Self(text.lines().filter_map(parse_mount).collect()))
    }

    /// `1` or `2`: where this machine counts memory, and so containers live. `None` without control groups.
    #[must_use]
    pub fn version(&self) -> Option<i64> {
        if self.v1("memory").is_some() {
            Some(1)
        } else {
            self.v2().map(|_| 2)
        }
    }

    fn v1(&self, controller: &str) -> Option<&Mount> {
        self.0.iter().find(
            |mount| matches!(&mount.kind, Kind::V1(names) if names.iter().any(|name| name == controller)),
        )
    }

    fn v2(&self) -> Option<&Mount> {
        self.0.iter().find(|mount| mount.kind == Kind::V2)
    }

    /// The folder of `controller` for the process with this `/proc/<pid>/cgroup`, and whether it is of version 1.
    fn folder(&self, groups: &str, controller: &str) -> anyhow::Result<(PathBuf, bool)> {
        if let (Some(mount), Some(path)) = (self.v1(controller), v1_path(groups, controller)) {
            return Ok((mount.folder_of(path)?, true));
        }
        let (mount, path) = self
            .v2()
            .zip(v2_path(groups))
            .with_context(|| format!("the kernel counts no {controller} for this process"))?;
        Ok((mount.folder_of(path)?, false))
    }
}

/// The files of the group that process `pid` is in. `container_id` must be part of the group's path.
///
/// # Errors
/// The process is gone or isn't the container's, or its groups can't be found.
pub fn locate(root: &Path, pid: i32, container_id: &str) -> anyhow::Result<GroupFiles> {
    let mounts = Mounts::read(root)?;
    let groups = read_text(&root.join(format!("proc/{pid}/cgroup")))?;
    let (cpu, cpu_v1) = match mounts.folder(&groups, "cpuacct") {
        Ok(found) => found,
        Err(_) => mounts.folder(&groups, "cpu")?,
    };
    let (memory, memory_v1) = mounts.folder(&groups, "memory")?;
    for folder in [&cpu, &memory] {
        anyhow::ensure!(
            !container_id.is_empty() && folder.to_string_lossy().contains(container_id),
            "process {pid} is in the control group {}, which isn't that of container {container_id}",
            folder.display()
        );
    }
    let below =
        |path: &Path, file: &str| root.join(path.strip_prefix("/").unwrap_or(path)).join(file);
    Ok(GroupFiles {
        cpu: if cpu_v1 {
            CpuFile::Nanoseconds(below(&cpu, "cpuacct.usage"))
        } else {
            CpuFile::Stat(below(&cpu, "cpu.stat"))
        },
        memory: below(
            &memory,
            if memory_v1 {
                "memory.usage_in_bytes"
            } else {
                "memory.current"
            },
        ),
        oom: below(
            &memory,
            if memory_v1 {
                "memory.oom_control"
            } else {
                "memory.events"
            },
        ),
    })
}

impl Mount {
    /// The folder of the group `path` below this mount.
    fn folder_of(&self, path: &str) -> anyhow::Result<PathBuf> {
        let below = Path::new(path).strip_prefix(&self.group).with_context(|| {
            format!(
                "the control group {path} isn't below {}, which is what {} shows",
                self.group,
                self.point.display()
            )
        })?;
        anyhow::ensure!(
            below
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_))),
            "the control group {path} is outside of what this process may see"
        );
        Ok(self.point.join(below))
    }
}

fn v1_path<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (names, path) = rest.split_once(':')?;
        names
            .split(',')
            .any(|name| name == controller)
            .then_some(path)
    })
}

fn v2_path(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// One line of `mountinfo`: `id parent major:minor root point options [optional…] - type source super-options`.
fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (group, point) = (unescape(before.next()?), unescape(before.next()?));
    let mut after = after.split(' ');
    let kind = match after.next()? {
        "cgroup" => Kind::V1(after.nth(1)?.split(',').map(str::to_owned).collect()),
        "cgroup2" => Kind::V2,
        _ => return None,
    };
    Some(Mount {
        group,
        point: PathBuf::from(point),
        kind,
    })
}

/// The kernel writes space, tab, newline and backslash as `\040` and so on.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(TEXT_BYTES_MAX).read_to_string(&mut text))
        .with_context(|| format!("{} can't be read", path.display()))?;
    Ok(text)
}
