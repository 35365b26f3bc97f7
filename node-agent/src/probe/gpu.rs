//! GPUs, by NVIDIA's own library (NVML), which the driver brings.
//!
//! # Invariants
//! - The library is opened once and kept: opening it takes long. It is tried again with each inventory while it is absent, and
//!   opened anew after it failed, so that a driver that is installed or restarted later is found.
//! - A machine without the library is normal: the reason is told, nothing fails.

use std::path::PathBuf;

use nvml_wrapper::{Device, Nvml, enum_wrappers::device::TemperatureSensor, error::NvmlError};
use shared::resources::{Gpu, GpuLoad};

use super::{DEVICES_MAX, bounded};

/// Asks NVML.
#[derive(Debug)]
pub struct GpuProbe {
    library: Option<PathBuf>,
    nvml: Option<Nvml>,
}

impl GpuProbe {
    /// `library` is the path of another library than the driver's.
    #[must_use]
    pub const fn new(library: Option<PathBuf>) -> Self {
        Self {
            library,
            nvml: None,
        }
    }

    /// All GPUs, or why none can be seen.
    pub(super) fn inventory(&mut self) -> Result<Vec<Gpu>, String> {
        let nvml = match self.nvml.take() {
            Some(nvml) => nvml,
            None => self
                .open()
                .map_err(|error| bounded(&format!("no NVIDIA driver: {error}")))?,
        };
        let gpus = list(&nvml)
            .map_err(|error| bounded(&format!("the NVIDIA driver doesn't answer: {error}")))?;
        // kept only when it answered: else it is opened anew next time
        self.nvml = Some(nvml);
        Ok(gpus)
    }

    /// How busy each of `gpus` is, in their order; empty when NVML fails for any of them.
    pub(super) fn load(&mut self, gpus: &[Gpu]) -> Vec<GpuLoad> {
        let Some(nvml) = &self.nvml else {
            return Vec::new();
        };
        let loads = gpus.iter().zip(0..).map(|(gpu, index)| {
            let device = nvml.device_by_index(index)?;
            // a GPU that fell off the bus shifts those behind it
            if device.uuid()? != gpu.uuid {
                return Err(NvmlError::NotFound);
            }
            load_of(&device)
        });
        match loads.collect() {
            Ok(loads) => loads,
            Err(error) => {
                tracing::warn!(%error, "the GPUs' load can't be read");
                self.nvml = None;
                Vec::new()
            }
        }
    }

    fn open(&self) -> Result<Nvml, NvmlError> {
        match &self.library {
            Some(path) => Nvml::builder().lib_path(path.as_os_str()).init(),
            None => Nvml::init(),
        }
    }
}

fn list(nvml: &Nvml) -> Result<Vec<Gpu>, NvmlError> {
    let driver = bounded(&nvml.sys_driver_version()?);
    let most = u32::try_from(DEVICES_MAX).unwrap_or(u32::MAX);
    (0..nvml.device_count()?.min(most))
        .map(|index| {
            let device = nvml.device_by_index(index)?;
            Ok(Gpu {
                uuid: bounded(&device.uuid()?),
                model: bounded(&device.name()?),
                vram_total_bytes: i64::try_from(device.memory_info()?.total).unwrap_or(i64::MAX),
                pci_bus_id: bounded(&device.pci_info()?.bus_id),
                driver: driver.clone(),
            })
        })
        .collect()
}

fn load_of(device: &Device<'_>) -> Result<GpuLoad, NvmlError> {
    Ok(GpuLoad {
        vram_used_bytes: i64::try_from(device.memory_info()?.used).unwrap_or(i64::MAX),
        busy_percent: known(device.utilization_rates())?.map(|rates| i64::from(rates.gpu)),
        temperature_c: known(device.temperature(TemperatureSensor::Gpu))?.map(i64::from),
    })
}

/// Some GPUs (those split into instances, for one) don't say everything.
fn known<T>(answer: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(NvmlError::NotSupported) => Ok(None),
        Err(error) => Err(error),
    }
}
