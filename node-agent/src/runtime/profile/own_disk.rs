//! The only thing that is ever mounted into a container: the rental's own disk.

use bollard::models::{Mount, MountType, MountVolumeOptions};
use shared::{resources::QuotaMeans, wire::desired::DesiredRental};

use crate::runtime::disk;

/// The name of the engine's volume that is a rental's disk.
#[must_use]
pub fn volume(rental_id: &str) -> String {
    format!("ramarket-disk-{rental_id}")
}

/// The rental's disk at its place, where disks are file systems of their own.
pub(super) fn mounts(rental: &DesiredRental, means: Option<QuotaMeans>) -> Option<Vec<Mount>> {
    let has = rental.resources.disk_bytes != 0 && means == Some(QuotaMeans::Loopback);
    has.then(|| {
        vec![Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume(&rental.rental_id.to_string())),
            target: Some(disk::PATH.to_owned()),
            // nothing of the image is put into it, so it isn't mounted before the start
            volume_options: Some(MountVolumeOptions {
                no_copy: Some(true),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        }]
    })
}
