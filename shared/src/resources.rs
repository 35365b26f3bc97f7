//! What a machine has and what is rented of it.
//!
//! # Invariants
//! - Bytes and thousandths, never floats; unknown is `None` with a reason beside it, never zero.

use serde::{Deserialize, Serialize};

use crate::image::rules::NodeImages;

/// A slice of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Memory.
    pub ram_bytes: i64,
    /// Thousandths of a CPU.
    pub cpu_millis: i64,
    /// Whole GPUs.
    #[serde(default)]
    pub gpu_count: i64,
    /// Disk space.
    #[serde(default)]
    pub disk_bytes: i64,
}

/// The least that stays with a machine, bytes: [`host_reserve_bytes`].
const HOST_RESERVE_BYTES_MIN: i64 = 512 << 20;
const HOST_RESERVE_SHARE: i64 = 16;

/// What of a machine's memory isn't rented out: 512 MiB or a sixteenth, whichever is more.
#[must_use]
pub fn host_reserve_bytes(ram_total_bytes: i64) -> i64 {
    (ram_total_bytes / HOST_RESERVE_SHARE).max(HOST_RESERVE_BYTES_MIN)
}

impl Resources {
    /// Whether every part of `self` is at most that of `other`.
    #[must_use]
    pub const fn fits_in(&self, other: &Self) -> bool {
        self.ram_bytes <= other.ram_bytes
            && self.cpu_millis <= other.cpu_millis
            && self.gpu_count <= other.gpu_count
            && self.disk_bytes <= other.disk_bytes
    }
}

/// What the agent measured on its machine. Nothing in it comes from configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The host's name.
    pub hostname: String,
    /// `uname -r`.
    pub kernel: String,
    /// The distribution's pretty name.
    pub os: String,
    /// Physical memory.
    pub ram_total_bytes: i64,
    /// Model name of the first processor.
    pub cpu_model: String,
    /// Logical processors that the agent may use.
    pub cpu_count: i64,
    /// Mounted disks that hold data.
    pub disks: Vec<Disk>,
    /// GPUs with what NVML said.
    pub gpus: Vec<Gpu>,
    /// Why `gpus` is empty (`no NVIDIA driver: …`), or `None` when NVML answered.
    pub gpu_absent_reason: Option<String>,
    /// Docker's engine, or `None` with `docker_absent_reason`.
    pub docker: Option<Docker>,
    /// Why `docker` is `None`.
    pub docker_absent_reason: Option<String>,
    /// `1` or `2`: which hierarchy the machine's containers live in.
    pub cgroup_version: i64,
    /// Why no GPU can be given to a rental here, although there are some: no container toolkit, or containers that get none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus_refused: Option<String>,
    /// Where rentals' disk space comes from; `None` where none can be rented out.
    #[serde(default)]
    pub rental_disk: Option<RentalDisk>,
    /// Why the machine takes no new rental now, such as a full disk, in words; `None` while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortage: Option<String>,
    /// What keeps rentals from the machine and from each other; `None` from agents that don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Which images run there and which are there; `None` from agents that don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<NodeImages>,
}

impl Inventory {
    /// GPUs that can be rented: whole, healthy ones that a container can get.
    pub fn rentable_gpus(&self) -> impl Iterator<Item = &Gpu> {
        let given = self.gpus_refused.is_none();
        self.gpus
            .iter()
            .filter(move |gpu| given && gpu.is_rentable())
    }
}

/// Disk space for rentals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RentalDisk {
    /// What keeps a rental within its share.
    pub means: QuotaMeans,
    /// All that rentals may take, what they hold now included.
    pub total_bytes: i64,
}

/// What keeps a rental within its disk space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaMeans {
    /// The engine's own quota of the container's root file system.
    Engine,
    /// A file system of its own in a file of that size: limits inodes too.
    Loopback,
    /// Nothing but watching: who takes more is stopped.
    Policed,
}

/// What lies between a rental and the machine, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationClass {
    /// The machine's own kernel, which all rentals share, with a list of calls that they may make.
    SharedKernel,
    /// A kernel in user space that serves the rental's calls itself (gVisor).
    Sandbox,
    /// A virtual machine of its own (Kata).
    Vm,
}

impl IsolationClass {
    /// The name in the database and in queries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SharedKernel => "shared_kernel",
            Self::Sandbox => "sandbox",
            Self::Vm => "vm",
        }
    }

    /// The class of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::SharedKernel, Self::Sandbox, Self::Vm]
            .into_iter()
            .find(|class| class.name() == name)
    }
}

/// What keeps rentals from a machine and from each other, as its agent found it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// What new rentals run under.
    pub class: IsolationClass,
    /// Whether rentals can have a network: the firewall that keeps them apart stands.
    pub network: bool,
    /// What the agent's own probe could reach from a rental's network and must not; the machine takes no rentals then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breach: Option<String>,
    /// What was looked at.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at, in words for the machine's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// A stable name: `docker_version`, `seccomp`, `isolation_probe`, …
    pub check: String,
    /// How it is.
    pub status: FindingStatus,
    /// What was found.
    pub cause: String,
    /// What to do about it; empty when it is well.
    pub mend: String,
}

impl Finding {
    /// A finding.
    #[must_use]
    pub fn new(check: &str, status: FindingStatus, cause: &str, mend: &str) -> Self {
        /// Characters of a text: findings travel in beats.
        const CHARS_MAX: usize = 500;
        let bounded = |text: &str| text.chars().take(CHARS_MAX).collect();
        Self {
            check: check.to_owned(),
            status,
            cause: bounded(cause),
            mend: bounded(mend),
        }
    }
}

/// How something that was looked at is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingStatus {
    /// As it should be.
    Ok,
    /// Weaker than it could be.
    Warning,
    /// Something doesn't work, or isn't safe.
    Failed,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// `ext4`, `xfs`, …
    pub file_system: String,
    /// Size.
    pub total_bytes: i64,
}

/// A GPU as NVML reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// `GPU-…`: unique across the world.
    pub uuid: String,
    /// Product name.
    pub model: String,
    /// Memory.
    pub vram_total_bytes: i64,
    /// PCI bus id.
    pub pci_bus_id: String,
    /// Driver version.
    pub driver: String,
    /// Highest CUDA version of the driver, `12.4`; `None` where it doesn't say.
    #[serde(default)]
    pub cuda: Option<String>,
    /// The fastest PCI Express link that GPU and slot agree on.
    #[serde(default)]
    pub pcie: Option<Pcie>,
    /// Whether it is split into instances (MIG): not rented out as a whole then.
    #[serde(default)]
    pub mig: bool,
    /// Whether work can be given to it.
    #[serde(default)]
    pub health: GpuHealth,
}

impl Gpu {
    /// Whether it can be rented: as a whole, and healthy.
    #[must_use]
    pub fn is_rentable(&self) -> bool {
        !self.mig && self.health == GpuHealth::Good
    }
}

/// Whether a text can be a whole GPU's UUID as NVML writes it (`GPU-8f6a…`), and nothing that NVIDIA's toolkit reads otherwise
/// (`all`, a number, several with commas).
#[must_use]
pub fn is_gpu_uuid(text: &str) -> bool {
    const CHARS_MAX: usize = 64;
    text.len() <= CHARS_MAX
        && text.strip_prefix("GPU-").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

/// A PCI Express link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pcie {
    /// `4` is PCIe 4.0.
    pub generation: i64,
    /// Lanes.
    pub width: i64,
}

/// Whether work can be given to a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum GpuHealth {
    /// Nothing is known against it.
    #[default]
    Good,
    /// It answers, and something is wrong with it.
    Degraded {
        /// What, in words.
        reason: String,
    },
    /// It was there and is gone.
    Lost {
        /// What, in words.
        reason: String,
    },
}

impl GpuHealth {
    /// What is wrong, in words; `None` if nothing is.
    #[must_use]
    pub fn fault(&self) -> Option<&str> {
        match self {
            Self::Good => None,
            Self::Degraded { reason } | Self::Lost { reason } => Some(reason),
        }
    }
}

/// Docker's engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docker {
    /// Engine version.
    pub version: String,
    /// API version that was agreed on.
    pub api_version: String,
    /// Names of the OCI runtimes, sorted.
    pub runtimes: Vec<String>,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// Whether containers outlive the daemon.
    pub live_restore: bool,
}

/// How busy the machine is at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Memory that could be given to a program now (`MemAvailable`).
    pub ram_available_bytes: i64,
    /// Share of all CPUs in use since the last beat, in thousandths (1000 = all of them).
    pub cpu_busy_millis: i64,
    /// One-minute load average times 1,000.
    pub load1_millis: i64,
    /// Free space per disk, in the order of [`Inventory::disks`].
    pub disk_free_bytes: Vec<i64>,
    /// Per GPU, in the order of [`Inventory::gpus`].
    pub gpus: Vec<GpuLoad>,
}

/// How busy a GPU is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GpuLoad {
    /// Memory in use.
    pub vram_used_bytes: i64,
    /// Share of time that a kernel ran, per cent; `None` where the GPU doesn't say (one that is split into instances).
    pub busy_percent: Option<i64>,
    /// Degrees Celsius; `None` where the GPU doesn't say.
    pub temperature_c: Option<i64>,
    /// Programs that compute on it.
    #[serde(default)]
    pub processes: Vec<GpuProcess>,
}

/// A program that computes on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// The container that it runs in; `None` for one of the host's.
    pub container_id: Option<String>,
    /// Memory that it holds there; `None` where the driver doesn't say.
    pub vram_used_bytes: Option<i64>,
}
