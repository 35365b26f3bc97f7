//! What a scripted machine measures of itself.

use shared::resources::Inventory;

/// A machine of 16 processors.
#[must_use]
pub fn inventory(ram_total_bytes: i64) -> Inventory {
    Inventory {
        hostname: "scripted".into(),
        kernel: "6.1.0".into(),
        os: "Debian GNU/Linux 12".into(),
        ram_total_bytes,
        cpu_model: "Test CPU".into(),
        cpu_count: 16,
        disks: Vec::new(),
        gpus: Vec::new(),
        gpu_absent_reason: Some("no NVIDIA driver".into()),
        docker: None,
        docker_absent_reason: Some("a test".into()),
        cgroup_version: 2,
        gpus_refused: None,
        images: None,
        shortage: None,
        rental_disk: None,
        isolation: None,
    }
}
