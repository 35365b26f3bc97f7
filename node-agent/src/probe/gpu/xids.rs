//! XIDs as the driver reports them: a thread waits for NVML's events, since they can't be asked for later.
//!
//! # Invariants
//! - The thread ends within a second after its [`Watch`] is dropped, and lets go of NVML then.
//! - A GPU that can't report events is left out; the others aren't.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nvml_wrapper::{
    EventSet, Nvml, bitmasks::event::EventTypes, enums::event::XidError, error::NvmlError,
};

/// How long a round over all GPUs waits, milliseconds.
const ROUND_MS: u32 = 1_000;

/// XIDs by UUID.
type Seen = Arc<Mutex<BTreeMap<String, BTreeSet<u64>>>>;

/// Waits for XIDs until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Seen,
    stop: Arc<AtomicBool>,
}

impl Watch {
    /// Waits for the XIDs of all GPUs of `nvml`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(nvml: &Arc<Nvml>) -> std::io::Result<Self> {
        let (seen, stop) = (Seen::default(), Arc::new(AtomicBool::new(false)));
        let (nvml, told, ended) = (Arc::clone(nvml), Arc::clone(&seen), Arc::clone(&stop));
        std::thread::Builder::new()
            .name("xids".to_owned())
            .spawn(move || listen(&nvml, &told, &ended))?;
        Ok(Self { seen, stop })
    }

    /// What was reported for a GPU so far.
    pub(super) fn of(&self, uuid: &str) -> BTreeSet<u64> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(uuid).cloned().unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn listen(nvml: &Nvml, seen: &Seen, stop: &AtomicBool) {
    let count = nvml
        .device_count()
        .inspect_err(|error| tracing::warn!(%error, "errors of GPUs aren't watched"))
        .unwrap_or_default();
    let sets: Vec<EventSet<'_>> = (0..count)
        .filter_map(|index| {
            subscribe(nvml, index)
                .inspect_err(|error| {
                    tracing::info!(gpu.index = index, %error, "a GPU doesn't report errors as they happen");
                })
                .ok()
        })
        .collect();
    let Some(wait_ms) = u32::try_from(sets.len())
        .ok()
        .and_then(|count| ROUND_MS.checked_div(count))
    else {
        return;
    };
    while !stop.load(Ordering::Relaxed) {
        for set in &sets {
            match set.wait(wait_ms) {
                Ok(event) => {
                    let (Some(XidError::Value(xid)), Ok(uuid)) =
                        (event.event_data, event.device.uuid())
                    else {
                        continue;
                    };
                    tracing::warn!(
                        gpu.uuid = uuid,
                        gpu.xid = xid,
                        "the driver reported an error of a GPU"
                    );
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.entry(uuid).or_default().insert(xid);
                }
                Err(NvmlError::Timeout) => {}
                // a GPU that is lost answers at once: not in a busy loop
                Err(_) => std::thread::park_timeout(Duration::from_millis(u64::from(wait_ms))),
            }
        }
    }
}

fn subscribe(nvml: &Nvml, index: u32) -> Result<EventSet<'_>, NvmlError> {
    let device = nvml.device_by_index(index)?;
    let set = nvml.create_event_set()?;
    device
        .register_events(EventTypes::CRITICAL_XID_ERROR, set)
        .map_err(|error| error.error)
}
