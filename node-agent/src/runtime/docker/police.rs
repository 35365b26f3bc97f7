//! Watches what rentals write where nothing else bounds it: the layer over their image, and, where disks are only watched, their disks.
//!
//! # Invariants
//! - Who is beyond is told of with its container until that is gone; the agent stops it, and notes why before it does.
//! - Who can't be looked at keeps nobody else from being looked at, and is looked at again with each pass.
//! - A look costs as much as rentals may write, not as much as they do (`disk::usage`), and an idle disk is seldom looked at.

use std::{
    collections::{BTreeMap, HashMap},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{
    models::{ContainerInspectResponse, ContainerSummary, MountPoint},
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
    label,
};

/// Between two looks at how full the disk is.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// Looks at one container that fail in a row before that is said loudly, and again after as many: a minute.
const FAILURES_TOLD: u32 = 12;
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
            rental_id: label(labels, LABEL_RENTAL)?.parse().ok()?,
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
    /// How many looks in a row failed, by container.
    failed: BTreeMap<String, u32>,
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

    fn take_new(&self) -> bool {
        std::mem::take(&mut self.state().has_new)
    }

    /// Whether a container is to be looked at although nothing has grown.
    fn is_new(&self, container_id: &str) -> bool {
        let state = self.state();
        !state.writers.contains_key(container_id) || state.failed.contains_key(container_id)
    }

    /// Forgets who doesn't run any more.
    fn forget_all_but(&self, running: &[ContainerSummary]) {
        let mut state = self.state();
        let ids: Vec<&String> = running.iter().filter_map(|one| one.id.as_ref()).collect();
        state.over.retain(|id, _| ids.contains(&id));
        state.writers.retain(|id, _| ids.contains(&id));
        state.failed.retain(|id, _| ids.contains(&id));
    }

    /// Notes how a look at a container went.
    fn note_look(&self, container_id: &str, looked: &Result<(), RuntimeError>) {
        let Err(error) = looked else {
            self.state().failed.remove(container_id);
            return;
        };
        let failures = {
            let mut state = self.state();
            state.has_new = true;
            let failures = state.failed.entry(container_id.to_owned()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        let id = short(container_id);
        if failures.is_multiple_of(FAILURES_TOLD) {
            tracing::error!(container.id = id, look.failures = failures, %error, "what a rental writes can't be looked at, and it may fill the disk; look at the engine, or stop the rental");
        } else {
            tracing::debug!(container.id = id, look.failures = failures, %error, "what a rental writes can't be looked at now");
        }
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
        // taken before the list: who comes after it sets it again
        if !self.police.take_new() {
            return Ok(());
        }
        let running = self
            .writers()
            .await
            .inspect_err(|_| self.police.expect_new())?;
        self.police.forget_all_but(&running);
        for container in &running {
            if self
                .police
                .is_new(container.id.as_deref().unwrap_or_default())
            {
                self.look_at_writer(container).await;
            }
        }
        Ok(())
    }

    /// Looks at what running rentals wrote. One that can't be looked at is left for the next pass.
    ///
    /// # Errors
    /// The engine doesn't list them.
    pub async fn look_at_writers(&self) -> Result<(), RuntimeError> {
        self.police.take_new();
        let running = self
            .writers()
            .await
            .inspect_err(|_| self.police.expect_new())?;
        self.police.forget_all_but(&running);
        for container in &running {
            self.look_at_writer(container).await;
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

    async fn look_at_writer(&self, container: &ContainerSummary) {
        if let (Some(id), Some(labels)) = (&container.id, &container.labels) {
            let looked = self.judge(id, labels).await;
            self.police.note_look(id, &looked);
        }
    }

    async fn judge(&self, id: &str, labels: &HashMap<String, String>) -> Result<(), RuntimeError> {
        let disk = label(labels, LABEL_DISK).and_then(|text| text.parse().ok());
        let may = self.writable(self.means().await?, disk.unwrap_or(0));
        let Some(written) = self.written(id, may).await? else {
            return Ok(());
        };
        if let Some(writer) = Writer::seen(labels, &written) {
            self.police.state().writers.insert(id.to_owned(), writer);
        }
        let Some(why) = written.usage.beyond(&may) else {
            return Ok(());
        };
        let told = self.police.state().over.insert(id.to_owned(), why.clone());
        if told.is_none() {
            tracing::warn!(
                container.id = short(id),
                why,
                "a rental takes more disk than it may"
            );
            let event = Event {
                container_id: id.to_owned(),
                rental_id: label(labels, LABEL_RENTAL).and_then(|id| id.parse().ok()),
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
        let engines = engines_files(&answer);
        let mounts = answer.mounts.unwrap_or_default();
        let own = |mount: &MountPoint| mount.destination.as_deref() == Some(disk::PATH);
        let own_disk = mounts.into_iter().find(own).and_then(|mount| mount.source);
        let disk = own_disk.map(PathBuf::from);
        let upper = answer
            .graph_driver
            .and_then(|driver| driver.data.get("UpperDir").map(PathBuf::from));
        let usage = match upper {
            Some(upper) => counted(id, upper, may).await,
            None => None,
        };
        let usage = match usage {
            Some(usage) => Some(usage),
            None => self.written_as_told(id).await?,
        };
        let beside_bytes = usage::count_files(&engines).map_err(|error| {
            RuntimeError::Unavailable(format!(
                "the engine's files of it can't be looked at: {error}"
            ))
        })?;
        Ok(usage.map(|usage| Written {
            usage: Usage {
                bytes: usage.bytes.saturating_add(beside_bytes),
                ..usage
            },
            disk,
        }))
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

/// A look at a layer; `None` when the engine has to be asked.
async fn counted(id: &str, upper: PathBuf, may: Writable) -> Option<Usage> {
    let looked = tokio::task::spawn_blocking(move || usage::count(&upper, &may)).await;
    match looked {
        Ok(Ok(usage)) => return Some(usage),
        // an engine in another place, or a container that ended
        Ok(Err(error)) => {
            tracing::debug!(container.id = short(id), %error, "a rental's layer can't be looked at");
        }
        Err(error) => {
            tracing::warn!(container.id = short(id), %error, "a look at a rental's layer broke");
        }
    }
    None
}

/// Files that the engine keeps for a container outside of its layer, and that its root may write to.
fn engines_files(answer: &ContainerInspectResponse) -> Vec<PathBuf> {
    let paths = [
        &answer.hosts_path,
        &answer.hostname_path,
        &answer.resolv_conf_path,
    ];
    let paths = paths.into_iter().flatten().filter(|path| !path.is_empty());
    paths.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests;
