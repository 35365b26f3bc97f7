//! Watches what rentals write where nothing else bounds it: the layer over their image, and, where disks are only watched, their disks.
//!
//! # Invariants
//! - Who is beyond is told of with its container until that is gone; the agent stops it, and notes why before it does.
//! - A look costs as much as rentals may write, not as much as they do (`disk::usage`), and an idle disk is seldom looked at.

use std::{
    collections::{BTreeMap, HashMap},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{
    models::{ContainerSummary, MountPoint},
    query_parameters::{InspectContainerOptions, ListContainersOptions},
};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use shared::{
    clock::{Clock as _, SystemClock},
    id::RentalId,
};
use tokio::sync::broadcast;

use super::{DockerRuntime, short};
use crate::runtime::{
    DiskUse, Event, LABEL_DISK, LABEL_NODE, LABEL_RENTAL, RuntimeError,
    disk::{
        self, Space, Writable,
        usage::{self, Looked, Usage},
    },
};

/// Between two looks at how full the disk is.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// Events that a slow listener may be behind; it looks at everything every 30 s anyway.
const EVENTS_MAX: usize = 64;

/// Who wrote too much.
#[derive(Debug)]
pub(super) struct Police {
    state: Mutex<State>,
    news: broadcast::Sender<Event>,
}

/// What was seen of a running container.
#[derive(Debug)]
struct Writer {
    rental_id: RentalId,
    layer_bytes: i64,
    /// Where its own disk is mounted.
    disk: Option<PathBuf>,
}

impl Writer {
    fn seen(labels: &HashMap<String, String>, written: &Written) -> Option<Self> {
        Some(Self {
            rental_id: labels.get(LABEL_RENTAL)?.parse().ok()?,
            layer_bytes: written.usage.bytes,
            disk: written.disk.clone(),
        })
    }

    /// `None` while its own disk can't be seen.
    fn disk_use(&self) -> Option<DiskUse> {
        let own_bytes = match &self.disk {
            Some(disk) => mounted_bytes(disk)?,
            None => 0,
        };
        Some(DiskUse {
            rental_id: self.rental_id,
            bytes: self.layer_bytes.saturating_add(own_bytes),
        })
    }
}

/// What is taken of the file system that is mounted here.
fn mounted_bytes(path: &Path) -> Option<i64> {
    let device = |path: &Path| std::fs::metadata(path).ok().map(|it| it.dev());
    // an engine in another place has mounted it there, and what is here is the machine's own
    if device(path)? == device(path.parent()?)? {
        return None;
    }
    let space = Space::of(path).ok()?;
    Some(space.total_bytes - space.free_bytes)
}

/// What a container wrote.
struct Written {
    usage: Usage,
    disk: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct State {
    looked: Option<Looked>,
    /// By container.
    writers: BTreeMap<String, Writer>,
    /// Somebody may run who wasn't looked at yet.
    has_new: bool,
    /// By container, with what is wrong.
    over: BTreeMap<String, String>,
}

impl Default for Police {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            news: broadcast::Sender::new(EVENTS_MAX),
        }
    }
}

impl Police {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a container is about to run.
    pub(super) fn expect_new(&self) {
        self.state().has_new = true;
    }

    /// What those who were looked at take of the disk.
    pub(super) fn disk_use(&self) -> Vec<DiskUse> {
        let state = self.state();
        state
            .writers
            .values()
            .filter_map(Writer::disk_use)
            .collect()
    }

    /// What is wrong with a container.
    pub(super) fn over(&self, container_id: &str) -> Option<String> {
        self.state().over.get(container_id).cloned()
    }

    /// Containers that were found to be beyond from now on.
    pub(super) fn news(&self) -> BoxStream<'static, Event> {
        let news = self.news.subscribe();
        stream::unfold(news, |mut news| async move {
            loop {
                match news.recv().await {
                    Ok(event) => return Some((event, news)),
                    // what was missed is in the next list
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }
}

impl DockerRuntime {
    /// Looks at what running rentals wrote, if somebody may have written too much.
    pub(super) async fn police(&self) -> Result<(), RuntimeError> {
        let ground = self.ground().await?;
        let root = ground.0.data_root.clone().unwrap_or_default();
        // an engine in another place: its disk can't be seen, so its own figures are asked for each time
        let now = Space::of(&root).ok().map(|space| Looked {
            space,
            boot_ms: SystemClock.boot_ms(),
        });
        if let Some(now) = now
            && !usage::is_due(self.police.state().looked, now)
        {
            return self.look_at_new_writers().await;
        }
        self.look_at_writers().await?;
        self.police.state().looked = now;
        Ok(())
    }

    /// Looks at those who weren't looked at yet, if there may be any.
    async fn look_at_new_writers(&self) -> Result<(), RuntimeError> {
        if !self.police.state().has_new {
            return Ok(());
        }
        for container in self.writers().await? {
            let id = container.id.as_deref().unwrap_or_default();
            if !self.police.state().writers.contains_key(id) {
                self.look_at_writer(&container).await?;
                self.police.state().has_new = false;
            }
        }
        Ok(())
    }

    /// Looks at what running rentals wrote.
    ///
    /// # Errors
    /// The engine's.
    pub async fn look_at_writers(&self) -> Result<(), RuntimeError> {
        let running = self.writers().await?;
        {
            let mut state = self.police.state();
            let ids: Vec<&String> = running.iter().filter_map(|one| one.id.as_ref()).collect();
            state.over.retain(|id, _| ids.contains(&id));
            state.writers.retain(|id, _| ids.contains(&id));
            state.has_new = false;
        }
        for container in &running {
            self.look_at_writer(container).await?;
        }
        Ok(())
    }

    /// This node's running containers.
    async fn writers(&self) -> Result<Vec<ContainerSummary>, RuntimeError> {
        let client = self.engine.client().await?;
        let labels = vec![
            LABEL_RENTAL.to_owned(),
            format!("{LABEL_NODE}={}", self.scope),
        ];
        let options = ListContainersOptions {
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        self.engine
            .read(client.list_containers(Some(options)))
            .await
    }

    async fn look_at_writer(&self, container: &ContainerSummary) -> Result<(), RuntimeError> {
        let (Some(id), Some(labels)) = (&container.id, &container.labels) else {
            return Ok(());
        };
        let disk = labels.get(LABEL_DISK).and_then(|text| text.parse().ok());
        let may = self.writable(self.means().await?, disk.unwrap_or(0));
        let Some(written) = self.written(id, may).await? else {
            return Ok(());
        };
        if let Some(writer) = Writer::seen(labels, &written) {
            self.police.state().writers.insert(id.clone(), writer);
        }
        let Some(why) = written.usage.beyond(&may) else {
            return Ok(());
        };
        let told = self.police.state().over.insert(id.clone(), why.clone());
        if told.is_none() {
            tracing::warn!(
                container.id = short(id),
                why,
                "a rental takes more disk than it may"
            );
            let event = Event {
                container_id: id.clone(),
                rental_id: labels.get(LABEL_RENTAL).and_then(|id| id.parse().ok()),
            };
            // nobody listens: the next list says it
            self.police.news.send(event).ok();
        }
        Ok(())
    }

    /// What a container wrote over its image; `None` when it is gone.
    async fn written(&self, id: &str, may: Writable) -> Result<Option<Written>, RuntimeError> {
        let Some(answer) = self.inspect_raw(id).await? else {
            return Ok(None);
        };
        let mounts = answer.mounts.unwrap_or_default();
        let own = |mount: &MountPoint| mount.destination.as_deref() == Some(disk::PATH);
        let own_disk = mounts.into_iter().find(own).and_then(|mount| mount.source);
        let disk = own_disk.map(PathBuf::from);
        let upper = answer
            .graph_driver
            .and_then(|driver| driver.data.get("UpperDir").map(PathBuf::from));
        if let Some(upper) = upper {
            let counted = tokio::task::spawn_blocking(move || usage::count(&upper, &may)).await;
            match counted {
                Ok(Ok(usage)) => return Ok(Some(Written { usage, disk })),
                // an engine in another place, or a container that ended
                Ok(Err(error)) => {
                    tracing::debug!(container.id = short(id), %error, "a rental's layer can't be looked at");
                }
                Err(error) => {
                    tracing::warn!(container.id = short(id), %error, "a look at a rental's layer broke");
                }
            }
        }
        let usage = self.written_as_told(id).await?;
        Ok(usage.map(|usage| Written { usage, disk }))
    }

    /// The same by the engine's own sum, which knows of no files without content.
    async fn written_as_told(&self, id: &str) -> Result<Option<Usage>, RuntimeError> {
        let client = self.engine.client().await?;
        let options = InspectContainerOptions { size: true };
        let call = client.inspect_container(id, Some(options));
        let bytes = self.engine.read(call).await?.size_rw;
        Ok(bytes.map(|bytes| Usage {
            bytes,
            ..Usage::default()
        }))
    }
}
