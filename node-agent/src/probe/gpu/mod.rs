//! GPUs, by NVIDIA's own library (NVML), which the driver brings.
//!
//! # Invariants
//! - The library is opened once and kept: opening it takes long. It is tried again with each inventory while it is absent, and
//!   opened anew after it failed, so that a driver that is installed or restarted later is found.
//! - A machine without the library is normal: the reason is told, nothing fails.
//! - A GPU that was there stays in the inventory, as lost: what is rented with it must be known to be broken.

mod health;
mod owners;
mod xids;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use health::Vitals;
use nvml_wrapper::{
    Device, Nvml,
    enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor},
    enums::device::UsedGpuMemory,
    error::NvmlError,
};
use shared::resources::{Gpu, GpuHealth, GpuLoad, GpuProcess, Pcie};
use xids::Watch;

use super::{DEVICES_MAX, bounded};

/// Most processes of a GPU that are told of.
const PROCESSES_MAX: usize = 16;

/// Asks NVML.
#[derive(Debug)]
pub struct GpuProbe {
    library: Option<PathBuf>,
    open: Option<Open>,
    /// Every GPU that was ever seen, by UUID.
    known: BTreeMap<String, Gpu>,
}

/// NVML while it answers.
#[derive(Debug)]
struct Open {
    nvml: Arc<Nvml>,
    xids: Option<Watch>,
}

impl GpuProbe {
    /// `library` is the path of another library than the driver's.
    #[must_use]
    pub const fn new(library: Option<PathBuf>) -> Self {
        Self {
            library,
            open: None,
            known: BTreeMap::new(),
        }
    }

    /// All GPUs, those that were lost included, or why none can be seen.
    pub(super) fn inventory(&mut self) -> Result<Vec<Gpu>, String> {
        let found = self.found();
        let lost = |reason: &str| GpuHealth::Lost {
            reason: bounded(reason),
        };
        let (found, health) = match found {
            Ok(found) => (
                found,
                lost("it was there and the driver doesn't list it any more: see the kernel's log"),
            ),
            Err(reason) if self.known.is_empty() => return Err(reason),
            Err(reason) => (Vec::new(), lost(&reason)),
        };
        for gpu in &found {
            self.known.insert(gpu.uuid.clone(), gpu.clone());
        }
        let missing = self
            .known
            .values()
            .filter(|known| !found.iter().any(|gpu| gpu.uuid == known.uuid));
        let missing: Vec<Gpu> = missing
            .map(|gpu| Gpu {
                health: health.clone(),
                ..gpu.clone()
            })
            .collect();
        let mut all = found;
        all.extend(missing);
        all.truncate(DEVICES_MAX);
        Ok(all)
    }

    fn found(&mut self) -> Result<Vec<Gpu>, String> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self
                .connect()
                .map_err(|error| bounded(&format!("no NVIDIA driver: {error}")))?,
        };
        let gpus = list(&open)
            .map_err(|error| bounded(&format!("the NVIDIA driver doesn't answer: {error}")))?;
        // kept only when it answered: else it is opened anew next time
        self.open = Some(open);
        Ok(gpus)
    }

    /// How busy each of `gpus` is, in their order, as their UUIDs say; nothing is known of one that doesn't answer.
    pub(super) fn load(&mut self, root: &Path, gpus: &[Gpu]) -> Vec<GpuLoad> {
        let Some(open) = &self.open else {
            return Vec::new();
        };
        gpus.iter()
            .map(|gpu| {
                let device = open.nvml.device_by_uuid(gpu.uuid.as_str());
                device
                    .and_then(|device| load_of(root, &device))
                    .unwrap_or_else(|error| {
                        tracing::debug!(gpu.uuid, %error, "a GPU's load can't be read");
                        GpuLoad::default()
                    })
            })
            .collect()
    }

    fn connect(&self) -> Result<Open, NvmlError> {
        let nvml = match &self.library {
            Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
            None => Nvml::init(),
        };
        let nvml = Arc::new(nvml?);
        let xids = Watch::start(&nvml)
            .inspect_err(|error| tracing::warn!(%error, "errors of GPUs aren't watched"))
            .ok();
        Ok(Open { nvml, xids })
    }
}

fn list(open: &Open) -> Result<Vec<Gpu>, NvmlError> {
    let nvml = &open.nvml;
    let driver = bounded(&nvml.sys_driver_version()?);
    let cuda = known(nvml.sys_cuda_driver_version())?
        .map(|version| format!("{}.{}", version / 1_000, version % 1_000 / 10));
    let most = u32::try_from(DEVICES_MAX).unwrap_or(u32::MAX);
    let mut gpus = Vec::new();
    for index in 0..nvml.device_count()?.min(most) {
        let gpu = nvml
            .device_by_index(index)
            .and_then(|device| describe(open, &device, (&driver, cuda.as_ref())));
        match gpu {
            Ok(gpu) => gpus.push(gpu),
            // one that fell off the bus keeps its place and answers nothing; the others are there
            Err(NvmlError::GpuLost | NvmlError::Unknown) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(gpus)
}

fn describe(
    open: &Open,
    device: &Device<'_>,
    (driver, cuda): (&str, Option<&String>),
) -> Result<Gpu, NvmlError> {
    let uuid = bounded(&device.uuid()?);
    let pcie = known(device.max_pcie_link_gen())?.zip(known(device.max_pcie_link_width())?);
    Ok(Gpu {
        model: bounded(&device.name()?),
        vram_total_bytes: i64::try_from(device.memory_info()?.total).unwrap_or(i64::MAX),
        pci_bus_id: bounded(&device.pci_info()?.bus_id),
        driver: driver.to_owned(),
        cuda: cuda.cloned(),
        pcie: pcie.map(|(generation, width)| Pcie {
            generation: i64::from(generation),
            width: i64::from(width),
        }),
        mig: known(device.mig_mode())?.is_some_and(|mode| mode.current != 0),
        health: health::judge(&vitals(open, device, &uuid)?),
        uuid,
    })
}

fn vitals(open: &Open, device: &Device<'_>, uuid: &str) -> Result<Vitals, NvmlError> {
    let errors = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
    Ok(Vitals {
        xids: open
            .xids
            .as_ref()
            .map(|xids| xids.of(uuid))
            .unwrap_or_default(),
        uncorrected_errors: known(errors)?,
        slowdown: known(device.current_throttle_reasons())?.map(|reasons| reasons.bits()),
        temperature_c: known(device.temperature(TemperatureSensor::Gpu))?.map(i64::from),
    })
}

fn load_of(root: &Path, device: &Device<'_>) -> Result<GpuLoad, NvmlError> {
    let processes = known(device.running_compute_processes())?.unwrap_or_default();
    Ok(GpuLoad {
        vram_used_bytes: i64::try_from(device.memory_info()?.used).unwrap_or(i64::MAX),
        busy_percent: known(device.utilization_rates())?.map(|rates| i64::from(rates.gpu)),
        temperature_c: known(device.temperature(TemperatureSensor::Gpu))?.map(i64::from),
        processes: processes
            .into_iter()
            .take(PROCESSES_MAX)
            .map(|process| GpuProcess {
                container_id: owners::container_of(root, process.pid),
                vram_used_bytes: match process.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => i64::try_from(bytes).ok(),
                    UsedGpuMemory::Unavailable => None,
                },
            })
            .collect(),
    })
}

/// Some GPUs (those split into instances, for one) and some drivers don't say everything.
fn known<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(
            NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::NoPermission,
        ) => Ok(None),
        Err(error) => Err(error),
    }
}
