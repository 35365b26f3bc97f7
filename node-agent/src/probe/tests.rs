//! The probes on this machine, and NVML through its real C interface against a library that the test builds.

use std::{path::PathBuf, process::Command};

use shared::resources::{Disk, Gpu, GpuLoad};

use super::{host::Found, *};
use crate::testing::TempDir;

fn no_docker() -> Result<EngineFacts, String> {
    Err("not asked".to_owned())
}

fn build_fake_nvml(dir: &TempDir) -> PathBuf {
    let library = dir.path().join("libnvidia-ml.so.1");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/probe/fake_nvml.c"
        ))
        .status()
        .expect("a C compiler (cc) is needed for this test");
    assert!(status.success());
    library
}

#[test]
fn what_is_told_of_this_machine_is_what_the_kernel_says() {
    let mut prober = Prober::new();
    let inventory = prober.inventory(no_docker()).expect("measured");
    let meminfo = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let kib = |name: &str| -> i64 {
        let line = meminfo
            .lines()
            .find(|line| line.starts_with(name))
            .expect("line");
        let text = line.split_ascii_whitespace().nth(1).expect("figure");
        text.parse().expect("number")
    };
    assert_eq!(inventory.ram_total_bytes, kib("MemTotal:") * 1024);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("release");
    assert_eq!(inventory.kernel, release.trim());
    assert!(inventory.cpu_count >= 1);
    assert_ne!(inventory.cpu_model, "");
    assert_eq!(inventory.docker, None);
    assert_eq!(inventory.docker_absent_reason.as_deref(), Some("not asked"));
    assert!(matches!(inventory.cgroup_version, 1 | 2));

    let load = prober.load(&inventory);
    let difference = (load.ram_available_bytes - kib("MemAvailable:") * 1024).abs();
    assert!(
        difference < inventory.ram_total_bytes / 4,
        "available: {}",
        load.ram_available_bytes
    );
    assert!((0..=1_000).contains(&load.cpu_busy_millis));
    assert_eq!(load.disk_free_bytes.len(), inventory.disks.len());
    for (free, disk) in load.disk_free_bytes.iter().zip(&inventory.disks) {
        assert!((1..=disk.total_bytes).contains(free), "{}", disk.mount);
    }
}

#[test]
fn gpus_are_read_through_the_c_interface_of_nvml() {
    let dir = TempDir::new();
    let library = build_fake_nvml(&dir);
    let mut prober = Prober::with_gpus(GpuProbe::new(Some(library)));
    let mut inventory = prober.inventory(no_docker()).expect("measured");
    assert_eq!(inventory.gpu_absent_reason, None);
    assert_eq!(inventory.gpus.len(), 2);
    assert_eq!(
        inventory.gpus[0],
        Gpu {
            uuid: "GPU-aaaa".into(),
            model: "Fake H100".into(),
            vram_total_bytes: 80 << 30,
            pci_bus_id: "00000000:01:00.0".into(),
            driver: "550.54.15".into(),
        }
    );
    let busy = GpuLoad {
        vram_used_bytes: 1 << 30,
        busy_percent: Some(42),
        temperature_c: Some(61),
    };
    let silent = GpuLoad {
        busy_percent: None,
        ..busy.clone()
    };
    assert_eq!(prober.load(&inventory).gpus, [busy.clone(), silent]);
    // another GPU sits where this one was: no figure is better than another GPU's
    inventory.gpus.remove(0);
    assert_eq!(prober.load(&inventory).gpus, []);
    // and the next look finds all again
    let inventory = prober.inventory(no_docker()).expect("measured");
    assert_eq!(prober.load(&inventory).gpus.first(), Some(&busy));
}

#[test]
fn a_machine_without_nvml_says_so() {
    let mut prober = Prober::with_gpus(GpuProbe::new(Some(PathBuf::from(
        "/nonexistent/libnvidia-ml.so",
    ))));
    let inventory = prober.inventory(no_docker()).expect("measured");
    assert_eq!(inventory.gpus, []);
    let reason = inventory.gpu_absent_reason.clone().expect("a reason");
    assert!(reason.starts_with("no NVIDIA driver: "), "{reason}");
    assert_eq!(prober.load(&inventory).gpus, []);
}

#[test]
fn a_device_counts_once_and_what_holds_no_data_not_at_all() {
    let found = |device: &str, mount: &str, file_system: &str, gib: i64| Found {
        device: device.into(),
        disk: Disk {
            mount: mount.into(),
            file_system: file_system.into(),
            total_bytes: gib << 30,
        },
        read_only: false,
    };
    let mut list = vec![
        found("/dev/vda", "/var/lib/docker", "ext4", 100),
        found("/dev/vda", "/", "ext4", 100),
        found(
            "overlay",
            "/var/lib/docker/overlay2/x/merged",
            "overlay",
            100,
        ),
        found("tmpfs", "/run", "tmpfs", 10),
        found("host:/export", "/mnt/nfs", "nfs4", 1_000),
        found("/dev/vdb", "/srv", "xfs", 500),
        found("/dev/vda15", "/boot/efi", "vfat", 0),
        Found {
            read_only: true,
            ..found("/dev/sr0", "/media", "ext4", 4)
        },
    ];
    let mounts: Vec<String> = host::choose(&mut list)
        .into_iter()
        .map(|disk| disk.mount)
        .collect();
    assert_eq!(mounts, ["/", "/srv"]);
}
