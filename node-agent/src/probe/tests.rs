//! The probes on this machine, and NVML through its real C interface against a library that the test builds.

use std::{path::PathBuf, process::Command};

use shared::clock::{Clock, SystemClock};
use shared::resources::{Disk, Gpu, GpuHealth, GpuLoad, Pcie};

use super::{host::Found, *};
use crate::testing::TempDir;

fn no_docker() -> Result<EngineFacts, String> {
    Err("not asked".to_owned())
}

/// NVML as the test's file says.
struct FakeNvml {
    dir: TempDir,
}

impl FakeNvml {
    /// Builds the library; `state` is what it plays (see fake_nvml.c).
    fn new(state: &str) -> Self {
        let dir = TempDir::new();
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(dir.path().join("libnvidia-ml.so.1"))
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/src/probe/fake_nvml.c"
            ))
            .status()
            .expect("a C compiler (cc) is needed for this test");
        assert!(status.success());
        let fake = Self { dir };
        fake.play(state);
        fake
    }

    /// At once: the thread that waits for events never reads half of it.
    fn play(&self, state: &str) {
        let next = self.dir.path().join("next");
        std::fs::write(&next, state).expect("written");
        std::fs::rename(next, self.dir.path().join("state")).expect("replaced");
    }

    fn prober(&self) -> Prober {
        Prober::with_gpus(GpuProbe::new(Some(
            self.dir.path().join("libnvidia-ml.so.1"),
        )))
    }
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
    let shortage = inventory.shortage.as_deref().expect("nothing can be begun");
    assert!(shortage.contains("engine"), "{shortage}");
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
    let fake = FakeNvml::new("count 2\nmig 1\n");
    let mut prober = fake.prober();
    let inventory = prober.inventory(no_docker()).expect("measured");
    assert_eq!(inventory.gpu_absent_reason, None);
    let first = Gpu {
        uuid: "GPU-aaaa".into(),
        model: "Fake H100".into(),
        vram_total_bytes: 80 << 30,
        pci_bus_id: "00000000:01:00.0".into(),
        driver: "550.54.15".into(),
        cuda: Some("12.4".into()),
        pcie: Some(Pcie {
            generation: 5,
            width: 16,
        }),
        mig: false,
        health: GpuHealth::Good,
    };
    let second = Gpu {
        uuid: "GPU-bbbb".into(),
        pci_bus_id: "00000000:02:00.0".into(),
        mig: true,
        ..first.clone()
    };
    assert_eq!(inventory.gpus, [first, second]);
    assert_eq!(inventory.rentable_gpus().count(), 1, "not the split one");
    let busy = GpuLoad {
        vram_used_bytes: 1 << 30,
        busy_percent: Some(42),
        temperature_c: Some(61),
        processes: Vec::new(),
    };
    let silent = GpuLoad {
        busy_percent: None,
        ..busy.clone()
    };
    assert_eq!(prober.load(&inventory).gpus, [busy, silent]);
}

#[test]
fn none_and_eight_gpus_are_counted() {
    let fake = FakeNvml::new("count 0\n");
    let mut prober = fake.prober();
    let inventory = prober.inventory(no_docker()).expect("measured");
    assert_eq!(inventory.gpus, []);
    assert_eq!(inventory.gpu_absent_reason, None, "the driver is there");
    fake.play("count 8\n");
    let inventory = prober.inventory(no_docker()).expect("measured");
    assert_eq!(inventory.rentable_gpus().count(), 8);
    assert_eq!(prober.load(&inventory).gpus.len(), 8);
}

#[test]
fn a_gpu_that_falls_off_the_bus_stays_as_lost_and_comes_back() {
    let fake = FakeNvml::new("count 3\n");
    let mut prober = fake.prober();
    prober.inventory(no_docker()).expect("measured");
    for lost in ["count 3\nlost 1\n", "count 3\ngone 1\n"] {
        fake.play(lost);
        let gpus = prober.gpus();
        let states: Vec<(&str, bool)> = gpus
            .iter()
            .map(|(gpu, _)| {
                let is_lost = matches!(gpu.health, GpuHealth::Lost { .. });
                (gpu.uuid.as_str(), is_lost)
            })
            .collect();
        assert_eq!(
            states,
            [("GPU-aaaa", false), ("GPU-cccc", false), ("GPU-bbbb", true)],
            "{lost}"
        );
        assert_eq!(gpus[2].1, GpuLoad::default(), "nothing is known of it");
        assert_eq!(gpus[1].1.busy_percent, Some(42), "the others go on");
        fake.play("count 3\n");
        let back = prober.gpus();
        assert!(back.iter().all(|(gpu, _)| gpu.is_rentable()), "{back:?}");
    }
}

#[test]
fn what_the_driver_reports_of_a_gpu_degrades_it() {
    let fake = FakeNvml::new("count 2\n");
    let mut prober = fake.prober();
    let mut fault_of = |index: usize| {
        let gpus = prober.gpus();
        gpus[index].0.health.fault().map(str::to_owned)
    };
    assert_eq!(fault_of(0), None);
    fake.play("count 2\necc 1 3\n");
    assert!(fault_of(1).is_some_and(|fault| fault.contains("3 memory errors")));
    fake.play("count 2\nslow 0 64\n");
    assert!(fault_of(0).is_some_and(|fault| fault.contains("by heat at 61 °C")));
    fake.play("count 2\nslow 0 4\n");
    assert_eq!(fault_of(0), None, "at its power limit: that is work");
    fake.play("count 2\nxid 0 13\nxid 0 79\n");
    let deadline_ms = SystemClock.boot_ms() + 60_000;
    let fault = loop {
        if let Some(fault) = fault_of(0) {
            break fault;
        }
        assert!(SystemClock.boot_ms() < deadline_ms, "the event never came");
        std::thread::yield_now();
    };
    assert!(fault.contains("XID 79"), "{fault}");
    assert_eq!(fault_of(1), None, "the other is well");
}

#[test]
fn whose_programs_compute_is_told() {
    let mine = std::process::id();
    let fake = FakeNvml::new(&format!("count 1\npid 0 {mine} 4096\npid 0 4294967295 1\n"));
    let gpus = fake.prober().gpus();
    let held: Vec<Option<i64>> = gpus[0]
        .1
        .processes
        .iter()
        .map(|process| process.vram_used_bytes)
        .collect();
    assert_eq!(held, [Some(4_096), Some(1)]);
    assert_eq!(gpus[0].1.processes[1].container_id, None, "no such process");
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
