//! GPUs of a container: whole ones, by their UUIDs, through the engine's own way to NVIDIA's container toolkit.
//!
//! # Invariants
//! - Never by number and never all: numbers change when a GPU is lost, and a count would take what another rental has.
//! - What the toolkit reads from the container's variables is the engine's word alone, neither the image's nor the consumer's; nor can
//!   either load a library into the toolkit's programs, which run as root (CVE-2025-23266).

use bollard::models::DeviceRequest;

/// Variables that the toolkit, or the loader of its programs, listens to.
pub(super) const ENGINES_VARIABLES: [&str; 6] = [
    "LD_AUDIT",
    "LD_PRELOAD",
    "NVIDIA_DISABLE_REQUIRE",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_MIG_CONFIG_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
];

/// What is asked of the engine for these GPUs; nothing for none.
pub(super) fn requests(uuids: &[String]) -> Option<Vec<DeviceRequest>> {
    (!uuids.is_empty()).then(|| {
        vec![DeviceRequest {
            driver: Some("nvidia".to_owned()),
            device_ids: Some(uuids.to_vec()),
            // programs compute and ask for load; no graphics, no video
            capabilities: Some(vec![
                ["gpu", "compute", "utility"].map(str::to_owned).to_vec(),
            ]),
            ..DeviceRequest::default()
        }]
    })
}
