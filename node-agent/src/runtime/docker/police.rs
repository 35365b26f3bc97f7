//! Watches what rentals write where nothing else bounds it: the layer over their image, and, where disks are only watched, their disks.
//!
//! # Invariants
//! - Who is beyond is told of with its container until that is gone; the agent stops it, and notes why before it does.
//! - A look costs as much as rentals may write, not as much as they do (`disk::usage`), and an idle disk is seldom looked at.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{
    models::ContainerSummary,
    query_parameters::{InspectContainerOptions, ListContainersOptions},
};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use shared::clock::{Clock as _, SystemClock};
use tokio::sync::broadcast;

use super::{DockerRuntime, short};
use crate::runtime::{
    Event, LABEL_DISK, LABEL_NODE, LABEL_RENTAL, RuntimeError,
    disk::{
        Space, Writable,
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

#[derive(Debug, Default)]
struct State {
    looked: Option<Looked>,
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
            return Ok(());
        }
        self.look_at_writers().await?;
        self.police.state().looked = now;
        Ok(())
    }

    /// Looks at what running rentals wrote.
    ///
    /// # Errors
    /// The engine's.
    pub async fn look_at_writers(&self) -> Result<(), RuntimeError> {
        let client = self.engine.client().await?;
        let labels = vec![
            LABEL_RENTAL.to_owned(),
            format!("{LABEL_NODE}={}", self.scope),
        ];
        let options = ListContainersOptions {
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        let running = self
            .engine
            .read(client.list_containers(Some(options)))
            .await?;
        let ids: Vec<&String> = running.iter().filter_map(|one| one.id.as_ref()).collect();
        let gone = |id: &String| !ids.contains(&id);
        self.police.state().over.retain(|id, _| !gone(id));
        for container in &running {
            self.look_at_writer(container).await?;
        }
        Ok(())
    }

    async fn look_at_writer(&self, container: &ContainerSummary) -> Result<(), RuntimeError> {
        let (Some(id), Some(labels)) = (&container.id, &container.labels) else {
            return Ok(());
        };
        let disk = labels.get(LABEL_DISK).and_then(|text| text.parse().ok());
        let may = self.writable(self.means().await?, disk.unwrap_or(0));
        let Some(usage) = self.written(id, may).await? else {
            return Ok(());
        };
        let Some(why) = usage.beyond(&may) else {
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
    async fn written(&self, id: &str, may: Writable) -> Result<Option<Usage>, RuntimeError> {
        let Some(answer) = self.inspect_raw(id).await? else {
            return Ok(None);
        };
        let upper = answer
            .graph_driver
            .and_then(|driver| driver.data.get("UpperDir").map(PathBuf::from));
        if let Some(upper) = upper {
            let counted = tokio::task::spawn_blocking(move || usage::count(&upper, &may)).await;
            match counted {
                Ok(Ok(usage)) => return Ok(Some(usage)),
                // an engine in another place, or a container that ended
                Ok(Err(error)) => {
                    tracing::debug!(container.id = short(id), %error, "a rental's layer can't be looked at");
                }
                Err(error) => {
                    tracing::warn!(container.id = short(id), %error, "a look at a rental's layer broke");
                }
            }
        }
        self.written_as_told(id).await
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
