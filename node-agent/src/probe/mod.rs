//! What this machine has and how busy it is: measured, never configured.
//!
//! # Invariants
//! - Every figure comes from the kernel, NVML or Docker; what is absent is absent with a reason in words.
//! - The [`Inventory`] is measured every [`REFRESH`]; [`Prober::load`] is cheap enough for each beat.
//! - Docker is asked by `runtime`, with a time-out: a hanging engine delays no beat.
//! - Texts and lists are bounded: odd hardware can't make a beat too large.

pub mod gpu;
mod host;
mod load;

#[cfg(test)]
mod tests;

use std::{path::PathBuf, time::Duration};

use shared::resources::{Gpu, GpuLoad, Inventory, Load};

use self::{gpu::GpuProbe, load::CpuTimes};
use crate::{
    measure::pressure::{self, Pressure},
    runtime::EngineFacts,
};

/// How often the inventory is measured anew.
pub const REFRESH: Duration = Duration::from_secs(60);
/// The same while the container engine doesn't answer.
pub const REFRESH_WITHOUT_ENGINE: Duration = Duration::from_secs(5);
/// Longest text that is taken from the machine.
const TEXT_CHARS_MAX: usize = 128;
/// Most disks or GPUs that are told of.
const DEVICES_MAX: usize = 64;

/// Measures the machine. Its calls may block for a moment: not for an async task.
#[derive(Debug)]
pub struct Prober {
    root: PathBuf,
    gpus: GpuProbe,
    cpu_before: Option<CpuTimes>,
    pressure: Pressure,
}

/// How large the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) ram_bytes: i64,
    pub(crate) cpu_count: i64,
}

/// Memory and processors alone, as [`Prober::inventory`] tells them.
///
/// # Errors
/// The kernel doesn't say.
pub(crate) fn size() -> anyhow::Result<Size> {
    Ok(Size {
        ram_bytes: host::ram_total_bytes()?,
        cpu_count: host::usable_cpus()?,
    })
}

impl Prober {
    /// Measures this machine, with the NVML of its driver.
    #[must_use]
    pub fn new() -> Self {
        Self::with_gpus(GpuProbe::new(None))
    }

    /// As [`Prober::new`] with another source of GPUs.
    #[must_use]
    pub fn with_gpus(gpus: GpuProbe) -> Self {
        Self {
            root: PathBuf::from("/"),
            gpus,
            cpu_before: None,
            pressure: Pressure::default(),
        }
    }

    /// What the machine has, `engine` being what the container engine said of itself, or why there is none.
    ///
    /// # Errors
    /// The kernel doesn't say how much memory there is.
    pub fn inventory(&mut self, engine: Result<EngineFacts, String>) -> anyhow::Result<Inventory> {
        let (gpus, gpu_absent_reason) = match self.gpus.inventory() {
            Ok(gpus) => (gpus, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        let host = host::measure(&self.root)?;
        let (engine, docker_absent_reason) = match engine {
            Ok(facts) => (Some(facts), None),
            Err(reason) => (None, Some(bounded(&reason))),
        };
        let gpus_refused = engine
            .as_ref()
            .and_then(|facts| facts.gpus_refused.clone())
            .filter(|_| !gpus.is_empty());
        Ok(Inventory {
            hostname: host.hostname,
            kernel: host.kernel,
            os: host.os,
            ram_total_bytes: host.ram_total_bytes,
            cpu_model: host.cpu_model,
            cpu_count: host.cpu_count,
            disks: host.disks,
            gpus,
            gpu_absent_reason,
            docker_absent_reason,
            cgroup_version: engine
                .as_ref()
                .and_then(|facts| facts.cgroup_version)
                .unwrap_or(host.cgroup_version),
            gpus_refused,
            rental_disk: engine.as_ref().and_then(|facts| facts.rental_disk.clone()),
            shortage: engine.as_ref().map_or_else(
                || Some("its container engine doesn't answer".to_owned()),
                |facts| facts.shortage.clone(),
            ),
            docker: engine.as_ref().map(|facts| facts.docker.clone()),
            images: engine.as_ref().map(|facts| facts.images.clone()),
            isolation: engine.map(|facts| facts.isolation),
        })
    }

    /// The GPUs as they are at this moment, and how busy each is; none where there is no driver.
    pub fn gpus(&mut self) -> Vec<(Gpu, GpuLoad)> {
        let gpus = self.gpus.inventory().unwrap_or_default();
        let loads = self.gpus.load(&self.root, &gpus);
        gpus.into_iter().zip(loads).collect()
    }

    /// How busy the machine is, its disks and GPUs in the order of `inventory`.
    pub fn load(&mut self, inventory: &Inventory) -> Load {
        let mut load = load::measure(&self.root, &mut self.cpu_before, inventory);
        load.gpus = self.gpus.load(&self.root, &inventory.gpus);
        load.memory_pressure = self.pressure.judge(pressure::Seen {
            waiting: pressure::waiting(&self.root),
            available_bytes: load.ram_available_bytes,
            total_bytes: inventory.ram_total_bytes,
        });
        load
    }
}

impl Default for Prober {
    fn default() -> Self {
        Self::new()
    }
}

/// A text of the machine's, without control characters and not too long.
pub(crate) fn bounded(text: &str) -> String {
    text.trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(TEXT_CHARS_MAX)
        .collect()
}
