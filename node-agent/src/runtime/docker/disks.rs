//! Rentals' disks at the engine: the volume by which it mounts a rental's file, and the looks that lead everything back to order.
//!
//! # Invariants
//! - The engine mounts, this process doesn't: a volume of its `local` driver names the link to the file's loop device. So mounts are in the
//!   engine's place, whatever place this process was put in, and they end with their container.
//! - A volume's name follows from its rental's id; its options are this program's own.
//! - Order of making: file, loop device, link, volume, container. Order of ending: container, volume, link, loop device, file. Whatever a
//!   crash leaves is one of these, and the next look ends it.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bollard::{
    models::{ContainerCreateBody, HostConfig, VolumeCreateRequest},
    query_parameters::{CreateContainerOptions, ListVolumesOptions, RemoveVolumeOptions},
};
use shared::{
    id::RentalId,
    resources::{QuotaMeans, RentalDisk},
    wire::desired::DesiredRental,
};

use super::{DockerRuntime, engine::is_status};
use crate::runtime::{
    ContainerRuntime as _, LABEL_NODE, LABEL_RENTAL, RuntimeError, code,
    disk::{self, Facts, Space, Volumes, Writable, pass::Keep, volumes::Taken},
    profile::{self, Ground},
};

/// How the engine mounts a disk: no devices and no other users' rights in it. Programs in it run, since tenants run what they build.
const MOUNT_OPTIONS: &str = "nodev,nosuid,noatime";

/// What an engine's rentals have for disks.
#[derive(Debug, Default)]
pub(super) struct Disks {
    /// `None` where nobody gave a folder.
    pub(super) volumes: Option<Volumes>,
    state: Mutex<State>,
    trying: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    means: Option<QuotaMeans>,
    /// Why nothing new is begun.
    shortage: Option<String>,
}

impl Disks {
    pub(super) fn of(volumes: Option<Volumes>) -> Self {
        Self {
            volumes,
            ..Self::default()
        }
    }

    /// Takes why a container didn't start: an engine that can't mount what this process made (it is in another place, or may not)
    /// isn't given disks any more.
    pub(super) fn refused(&self, error: &RuntimeError) {
        let RuntimeError::Refused { reason, .. } = error else {
            return;
        };
        if reason.contains("failed to mount local volume") {
            tracing::error!(
                reason,
                "the engine can't mount rentals' disks; they are only watched from now on"
            );
            self.state().means = Some(QuotaMeans::Policed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DockerRuntime {
    /// What keeps rentals within their disks; found out once. `None` where no folder was given: then none is rented out.
    pub(super) async fn means(&self) -> Result<Option<QuotaMeans>, RuntimeError> {
        let Some(volumes) = &self.disks.volumes else {
            return Ok(None);
        };
        let _turn = self.disks.trying.lock().await;
        let known = self.disks.state().means;
        if known.is_some() {
            return Ok(known);
        }
        let ground = &self.ground().await?.0;
        let mut facts = Facts {
            driver: ground.storage_driver.clone(),
            backing: ground.backing.clone(),
            ..Facts::default()
        };
        if facts.may_have_quota() {
            facts.took_size = self.takes_size().await;
        }
        if !facts.took_size {
            let tried = volumes.trial().await;
            facts.no_loopback = tried.err().map(|error| format!("{error:#}"));
        }
        let means = facts.decide();
        match (&facts.no_loopback, means) {
            (Some(why), QuotaMeans::Policed) => tracing::warn!(
                why,
                "no file can be made a disk here: rentals' disks are only watched"
            ),
            _ => tracing::info!(disk.means = ?means, "how rentals are kept within their disks"),
        }
        self.disks.state().means = Some(means);
        Ok(Some(means))
    }

    /// Whether the engine makes a container with a size.
    async fn takes_size(&self) -> bool {
        let tried = async {
            let image = self.probe_image().await?;
            let client = self.engine.client().await?;
            let size = ("size".to_owned(), disk::TRIAL_SIZE.to_owned());
            let body = ContainerCreateBody {
                image: Some(image.reference),
                cmd: Some(image.command),
                host_config: Some(HostConfig {
                    network_mode: Some(profile::NO_NETWORK.to_owned()),
                    storage_opt: Some([size].into()),
                    ..HostConfig::default()
                }),
                ..ContainerCreateBody::default()
            };
            let options = None::<CreateContainerOptions>;
            let made = client.create_container(options, body).await?;
            self.remove_with_network(&made.id).await?;
            Ok::<_, anyhow::Error>(())
        };
        match tried.await {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(
                    error = format!("{error:#}"),
                    "the engine takes no size for containers"
                );
                false
            }
        }
    }

    /// What the inventory tells of disks.
    pub(super) async fn rental_disk(&self) -> Result<Option<RentalDisk>, RuntimeError> {
        let (Some(volumes), Some(means)) = (&self.disks.volumes, self.means().await?) else {
            return Ok(None);
        };
        let asked = || {
            let (space, held) = (volumes.space()?, volumes.held()?);
            let total_bytes =
                disk::total(&space, volumes.settings(), held.live_bytes, held.kept_bytes);
            Ok::<_, std::io::Error>(RentalDisk { means, total_bytes })
        };
        asked().map(Some).map_err(|error| unreadable(&error))
    }

    /// What a rental may write outside a disk of its own.
    pub(super) fn writable(&self, means: Option<QuotaMeans>, disk_bytes: i64) -> Writable {
        let settings = self.disks.volumes.as_ref().map(Volumes::settings);
        let default = || disk::Settings::new(PathBuf::new()).writable(means, disk_bytes);
        settings.map_or_else(default, |settings| settings.writable(means, disk_bytes))
    }

    /// Looks whether there is room for anything new, on the engine's disk and on that of rentals' disks.
    pub(super) fn look_for_room(&self, ground: &Ground) -> Option<String> {
        let volumes = self.disks.volumes.as_ref()?;
        let settings = volumes.settings();
        let mut state = self.disks.state();
        let folders = [Some(settings.folder.as_path()), ground.data_root.as_deref()];
        let mut shortages = folders.into_iter().flatten().filter_map(|folder| {
            // an engine in another place: what can't be seen isn't judged
            let space = Space::of(folder).ok()?;
            space.shortage(settings, state.shortage.is_some())
        });
        let now = shortages.next();
        match (&state.shortage, &now) {
            (None, Some(why)) => tracing::error!(why, "this machine takes no new rental"),
            (Some(_), None) => {
                tracing::info!("there is room on the disk again; this machine takes rentals");
            }
            _ => {}
        }
        state.shortage.clone_from(&now);
        now
    }

    /// Makes the rental's disk ready, if it ordered one that is a file.
    pub(super) async fn disk(
        &self,
        rental: &DesiredRental,
    ) -> Result<Option<Taken<'_>>, RuntimeError> {
        if let Some(why) = self.look_for_room(&self.ground().await?.0) {
            let why = format!("this node begins nothing new: {why}; choose another node");
            return Err(RuntimeError::refused(code::NO_SPACE, why));
        }
        let bytes = rental.resources.disk_bytes;
        if bytes == 0 {
            return Ok(None);
        }
        let (Some(volumes), Some(means)) = (&self.disks.volumes, self.means().await?) else {
            let why = "this node gives no disks; rent without one or choose another node";
            return Err(RuntimeError::refused(code::NOT_SUPPORTED, why));
        };
        if means != QuotaMeans::Loopback {
            let there = self.rental_disk().await?.map_or(0, |disk| disk.total_bytes);
            if bytes > there {
                let why = "this node's disk has less room than that now; choose another node";
                return Err(RuntimeError::refused(code::NO_SPACE, why));
            }
            return Ok(None);
        }
        let taken = volumes.take(rental.rental_id, bytes).await?;
        if let Err(error) = self.make_volume(rental.rental_id, &taken).await {
            let fresh = taken.fresh;
            drop(taken);
            if fresh {
                self.end_disk(rental.rental_id, Keep::Nothing).await;
            }
            return Err(error);
        }
        Ok(Some(taken))
    }

    async fn make_volume(&self, id: RentalId, taken: &Taken<'_>) -> Result<(), RuntimeError> {
        let client = self.engine.client().await?;
        let device = taken.device.to_string_lossy().into_owned();
        let options = [
            ("type", "ext4"),
            ("device", device.as_str()),
            ("o", MOUNT_OPTIONS),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let id = id.to_string();
        let labels = [(LABEL_RENTAL, id.as_str()), (LABEL_NODE, &self.scope)];
        let request = VolumeCreateRequest {
            name: Some(profile::volume(&id)),
            driver: Some("local".to_owned()),
            driver_opts: Some(options.map(owned).into()),
            labels: Some(labels.map(owned).into()),
            ..VolumeCreateRequest::default()
        };
        // one that is there already with these options is taken; with others the engine refuses
        match client.create_volume(request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.engine.classify(error, code::CREATE_FAILED)),
        }
    }

    async fn remove_volume(&self, name: &str) -> Result<(), RuntimeError> {
        let client = self.engine.client().await?;
        let options = None::<RemoveVolumeOptions>;
        match client.remove_volume(name, options).await {
            Ok(()) => Ok(()),
            Err(error) if is_status(&error, 404) => Ok(()),
            Err(error) => Err(self.engine.classify(error, code::ENGINE_REFUSED)),
        }
    }

    /// Ends the disk of a rental whose container is gone, if it has one. What fails is taken up by the next look.
    pub(super) async fn end_disk(&self, id: RentalId, keep: Keep) {
        let Some(volumes) = &self.disks.volumes else {
            return;
        };
        if !volumes.has(id) {
            return;
        }
        let ended = async {
            let pass = volumes.pass().await?;
            if pass.in_hand(id) {
                return Ok(());
            }
            if let Err(error) = self.remove_volume(&profile::volume(&id.to_string())).await {
                // an engine that was restarted under a container forgets that nobody mounts it any more, until its next start
                tracing::debug!(rental.id = %id, %error, "a disk's volume stays at the engine for now");
            }
            pass.release(id, keep).await
        };
        if let Err(error) = ended.await {
            tracing::warn!(rental.id = %id, error = format!("{error:#}"), "a rental's disk can't be put away yet");
        }
    }

    /// Leads every disk to where it belongs; what a crash left as well.
    ///
    /// # Errors
    /// Something refuses; the next look goes on from there.
    pub async fn sweep_disks(&self) -> anyhow::Result<()> {
        let Some(volumes) = &self.disks.volumes else {
            return Ok(());
        };
        // before the engine is asked: what comes later has its container in the answer, or is in hand
        let pass = volumes.pass().await?;
        let live: BTreeSet<RentalId> = self
            .list()
            .await?
            .iter()
            .filter_map(|container| container.rental_id)
            .collect();
        for (id, name) in self.volumes_of_rentals().await? {
            if !live.contains(&id)
                && !pass.in_hand(id)
                && let Err(error) = self.remove_volume(&name).await
            {
                tracing::debug!(volume.name = name, %error, "a volume that no rental has can't be removed yet");
            }
        }
        for id in pass.ended(&live) {
            pass.release(id, Keep::Grace).await?;
        }
        pass.tidy(&live).await
    }

    /// Volumes at the engine that are this node's, with their names.
    async fn volumes_of_rentals(&self) -> Result<Vec<(RentalId, String)>, RuntimeError> {
        let client = self.engine.client().await?;
        let label = format!("{LABEL_NODE}={}", self.scope);
        let options = ListVolumesOptions {
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
        };
        let found = self.engine.read(client.list_volumes(Some(options))).await?;
        let found = found.volumes.unwrap_or_default().into_iter();
        Ok(found
            .filter_map(|volume| {
                let id = volume.labels.get(LABEL_RENTAL)?.parse().ok()?;
                Some((id, volume.name))
            })
            .collect())
    }
}

fn unreadable(error: &std::io::Error) -> RuntimeError {
    RuntimeError::Unavailable(format!(
        "the folder of rentals' disks can't be read: {error}"
    ))
}
