//! What host and engine can do, as far as it decides fields of the profile.
//!
//! # Invariants
//! - Read from the kernel and from what the engine says of itself; nothing is configured.
//! - What can't be told is taken as absent: a limit is then not asked for, never asked for and ignored.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use bollard::models::{SystemInfo, SystemInfoCgroupDriverEnum};
use rustix::process::Resource;

/// Facts about host and engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ground {
    /// Whether containers live in the cgroup v1 hierarchy.
    pub cgroup_v1: bool,
    /// The hard limit on open files here; asking for more makes containers fail to start where root may not raise limits.
    pub open_files_limit: i64,
    /// The same for memory that a process locks.
    pub locked_bytes_limit: i64,
    /// Whether systemd makes the engine's control groups.
    pub systemd_cgroups: bool,
    /// Whether the kernel has AppArmor and the engine uses it.
    pub apparmor: bool,
    /// Whether the engine maps containers' root to an unprivileged user.
    pub userns_remap: bool,
    /// The device (`/dev/…`) that holds the engine's data; `None` where it isn't one disk, or where the kernel can't throttle.
    pub disk: Option<String>,
    /// The engine's storage driver, `overlay2` on most machines.
    pub storage_driver: String,
    /// What that lies on, as the engine says: `extfs`, `xfs`, …
    pub backing: String,
    /// The engine's folder.
    pub data_root: Option<PathBuf>,
}

impl Ground {
    /// Reads them from this machine and from the engine's answer to `info`.
    #[must_use]
    pub fn read(info: &SystemInfo) -> Self {
        let limit = |of| {
            let limit = rustix::process::getrlimit(of).maximum;
            limit
                .and_then(|limit| i64::try_from(limit).ok())
                .unwrap_or(i64::MAX)
        };
        let cgroup_v1 = !Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let options = info.security_options.as_deref().unwrap_or_default();
        let has = |name: &str| {
            options
                .iter()
                .any(|option| option.split(',').any(|part| part == format!("name={name}")))
        };
        let status = info.driver_status.as_deref().unwrap_or_default();
        let backing = status.iter().find_map(|pair| match pair.as_slice() {
            [name, value] if name == "Backing Filesystem" => Some(value.clone()),
            _ => None,
        });
        Self {
            storage_driver: info.driver.clone().unwrap_or_default(),
            backing: backing.unwrap_or_default(),
            data_root: info.docker_root_dir.as_deref().map(PathBuf::from),
            cgroup_v1,
            open_files_limit: limit(Resource::Nofile),
            locked_bytes_limit: limit(Resource::Memlock),
            systemd_cgroups: info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD),
            apparmor: has("apparmor"),
            userns_remap: has("userns"),
            disk: info
                .docker_root_dir
                .as_deref()
                .filter(|_| throttles(Path::new("/sys/fs/cgroup"), cgroup_v1))
                .and_then(|folder| disk_of(Path::new("/sys/dev/block"), Path::new(folder))),
        }
    }

    /// The group that holds all rentals: one place for a cap on all of them, and for what they use together.
    #[must_use]
    pub const fn cgroup_parent(&self) -> &'static str {
        if self.systemd_cgroups {
            "ramarket.slice"
        } else {
            "/ramarket"
        }
    }
}

/// Whether the kernel can cap what a group reads and writes.
fn throttles(cgroups: &Path, v1: bool) -> bool {
    if v1 {
        return cgroups
            .join("blkio/blkio.throttle.read_bps_device")
            .exists();
    }
    std::fs::read_to_string(cgroups.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_ascii_whitespace().any(|name| name == "io"))
}

/// The whole disk below `folder`: the kernel caps disks, not their partitions. `None` for a file system on several devices or on none.
fn disk_of(devices: &Path, folder: &Path) -> Option<String> {
    let number = std::fs::metadata(folder).ok()?.dev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let mut device: PathBuf = devices
        .join(format!("{major}:{minor}"))
        .canonicalize()
        .ok()?;
    if device.join("partition").exists() {
        device.pop();
    }
    let name = device.file_name()?.to_str()?;
    let safe = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.!".contains(&b));
    safe.then(|| format!("/dev/{}", name.replace('!', "/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn the_engines_words_become_facts() {
        let info = SystemInfo {
            cgroup_driver: Some(SystemInfoCgroupDriverEnum::SYSTEMD),
            security_options: Some(vec![
                "name=apparmor".to_owned(),
                "name=seccomp,profile=default".to_owned(),
                "name=userns".to_owned(),
            ]),
            ..SystemInfo::default()
        };
        let ground = Ground::read(&info);
        assert!(ground.apparmor && ground.userns_remap && ground.systemd_cgroups);
        assert_eq!(ground.cgroup_parent(), "ramarket.slice");
        let bare = Ground::read(&SystemInfo::default());
        assert!(!bare.apparmor && !bare.userns_remap);
        assert_eq!((bare.cgroup_parent(), bare.disk), ("/ramarket", None));
    }

    #[test]
    fn a_partition_stands_for_its_disk() {
        let dir = TempDir::new();
        let devices = dir.path().join("dev");
        let disk = dir.path().join("sys/vdz/vdz1");
        std::fs::create_dir_all(&disk).expect("made");
        std::fs::create_dir_all(&devices).expect("made");
        let number = std::fs::metadata(dir.path()).expect("there").dev();
        let link = format!(
            "{}:{}",
            rustix::fs::major(number),
            rustix::fs::minor(number)
        );
        std::os::unix::fs::symlink(&disk, devices.join(link)).expect("linked");
        assert_eq!(disk_of(&devices, dir.path()).as_deref(), Some("/dev/vdz1"));
        std::fs::write(disk.join("partition"), "1").expect("written");
        assert_eq!(disk_of(&devices, dir.path()).as_deref(), Some("/dev/vdz"));
        assert_eq!(disk_of(&dir.path().join("absent"), dir.path()), None);
    }

    #[test]
    fn a_kernel_without_throttling_is_not_asked_for_it() {
        let dir = TempDir::new();
        assert!(!throttles(dir.path(), true) && !throttles(dir.path(), false));
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu io memory\n").expect("written");
        assert!(throttles(dir.path(), false));
        std::fs::create_dir(dir.path().join("blkio")).expect("made");
        std::fs::write(dir.path().join("blkio/blkio.throttle.read_bps_device"), "")
            .expect("written");
        assert!(throttles(dir.path(), true));
    }
}
