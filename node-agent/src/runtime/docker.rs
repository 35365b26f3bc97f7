//! [`ContainerRuntime`] on a Docker engine's unix socket.
//!
//! # Invariants
//! - The engine may be away at any time, at the start too: nothing connects before it is needed (`engine`).
//! - No read waits for a start: Docker holds a container's lock while it starts it, so containers that were never started are
//!   described from the list alone.
//! - A container that this node didn't label is never returned and never touched.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bollard::{
    models::{ContainerInspectResponse, ContainerSummary},
    query_parameters::{
        EventsOptions, InspectContainerOptions, ListContainersOptions, StartContainerOptions,
        StopContainerOptions,
    },
};
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use shared::{
    image::Digest,
    link::open::{Entry, LogsQuery},
    time::Timestamp,
    wire::desired::DesiredRental,
};

use super::{
    Container, ContainerRuntime, Created, DiskUse, EngineFacts, Event, Fetch, LABEL_NODE,
    LABEL_RENTAL, OnProgress, Pipe, RuntimeError, cache, code, digest, disk::Volumes,
    isolation::Decision, network::Settings, parse, profile::Ground, self_test::SelfTest,
};

mod archive;
mod attach;
mod bridges;
mod create;
mod disks;
mod engine;
mod enter;
mod facts;
mod held;
mod image_cache;
mod image_digest;
mod images;
mod keep;
mod leave;
mod logs;
mod networks;
mod police;
mod probe_image;
mod self_probe;
mod self_test;

use disks::Disks;
use engine::{Engine, is_status};
use enter::Inside;
use images::Images;
use networks::Networks;
use police::Police;

/// Inspections that run at once when all containers are read.
const INSPECTIONS_AT_ONCE: usize = 8;
/// Image digests that are remembered.
const DIGESTS_MAX: usize = 1_024;

/// A node's share of a Docker engine.
#[derive(Debug)]
pub struct DockerRuntime {
    engine: Engine,
    scope: String,
    /// What host and engine can do; read when it is needed first, and again with each [`ContainerRuntime::facts`].
    ground: Mutex<Option<Arc<(Ground, Decision)>>>,
    networks: Networks,
    disks: Disks,
    police: Police,
    images: Images,
    inside: Inside,
    /// By (image id, reference): an image id never changes what it stands for.
    digests: Mutex<HashMap<(String, String), String>>,
}

impl DockerRuntime {
    /// For the engine at `docker_host` (the value of `DOCKER_HOST`: `unix:///path`; `None` for [`engine::SOCKET`]), with `scope`, the node's
    /// id, as the label that tells this node's containers from others'. Doesn't connect yet.
    ///
    /// # Errors
    /// `docker_host` isn't a unix socket: an engine on another machine can't be metered or limited from here.
    pub fn new(docker_host: Option<&str>, scope: String) -> anyhow::Result<Self> {
        let socket = match docker_host {
            None | Some("") => engine::SOCKET,
            Some(host) => host.strip_prefix("unix://").ok_or_else(|| {
                anyhow::anyhow!(
                    "DOCKER_HOST is {host:?}, but the agent works with an engine on this machine only; set it to unix:///path or unset it"
                )
            })?,
        };
        Ok(Self {
            engine: Engine::at(socket),
            scope,
            ground: Mutex::new(None),
            networks: Networks::new(Settings::default()),
            disks: Disks::default(),
            police: Police::default(),
            images: Images::default(),
            inside: Inside::new(None),
            digests: Mutex::new(HashMap::new()),
        })
    }

    /// With what the machine's owner decided about rentals' networks.
    #[must_use]
    pub fn with_networks(self, settings: Settings) -> Self {
        Self {
            networks: Networks::new(settings),
            ..self
        }
    }

    /// With disks for rentals, in a folder. `None`: there are none.
    #[must_use]
    pub fn with_disks(self, volumes: Option<Volumes>) -> Self {
        Self {
            disks: Disks::of(volumes),
            ..self
        }
    }

    /// With what the machine's owner decided about images.
    #[must_use]
    pub fn with_images(self, settings: cache::Settings) -> Self {
        Self {
            images: Images::new(settings),
            ..self
        }
    }

    /// With `ramarket-inside` from this file, in place of the one beside this program or the packaged one.
    #[must_use]
    pub fn with_inside(self, program: PathBuf) -> Self {
        Self {
            inside: Inside::new(Some(program)),
            ..self
        }
    }

    async fn inspect_raw(
        &self,
        container: &str,
    ) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
        let client = self.engine.client().await?;
        let call = async {
            match client
                .inspect_container(container, None::<InspectContainerOptions>)
                .await
            {
                Err(error) if is_status(&error, 404) => Ok(None),
                other => other.map(Some),
            }
        };
        self.engine.read(call).await
    }

    async fn described(
        &self,
        summary: ContainerSummary,
    ) -> Result<Option<Container>, RuntimeError> {
        if let Some(created) = parse::never_started(&summary) {
            return Ok(Some(created));
        }
        match summary.id {
            Some(id) => self.inspect(&id).await,
            None => Ok(None),
        }
    }

    async fn parsed(
        &self,
        answer: &ContainerInspectResponse,
    ) -> Result<Option<Container>, RuntimeError> {
        let Some(mut container) = parse::container(answer, &self.scope) else {
            return Ok(None);
        };
        container.over_disk = self.police.over(&container.id);
        let reference = answer.config.as_ref().and_then(|c| c.image.as_deref());
        if let (Some(image_id), Some(reference)) = (answer.image.as_deref(), reference) {
            container.image_digest = Some(self.digest(image_id, reference).await?);
        }
        Ok(Some(container))
    }
}

#[async_trait]
impl ContainerRuntime for DockerRuntime {
    async fn facts(&self) -> Result<EngineFacts, RuntimeError> {
        let known = facts::facts(self.engine.socket()).await?;
        // asked without a scope, by a command: it only looks, and changes no firewall
        if !self.scope.is_empty() {
            self.guard_first().await;
        }
        let isolation = self.isolation(&known.decision);
        let ground = self.remember_ground(known.ground, known.decision);
        Ok(EngineFacts {
            docker: known.docker,
            cgroup_version: known.cgroup_version,
            isolation,
            rental_disk: self.rental_disk().await?,
            shortage: self.look_for_room(&ground.0),
            images: self.images.told(),
            gpus_refused: known.gpus_refused,
        })
    }

    async fn self_test(&self) -> Result<SelfTest, RuntimeError> {
        Box::pin(self.test_itself()).await
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        let client = self.engine.client().await?;
        let labels = vec![
            LABEL_RENTAL.to_owned(),
            format!("{LABEL_NODE}={}", self.scope),
        ];
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        let summaries = self
            .engine
            .read(client.list_containers(Some(options)))
            .await?;
        let found: Vec<Option<Container>> = stream::iter(summaries)
            .map(|summary| self.described(summary))
            .buffered(INSPECTIONS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn inspect(&self, container_id: &str) -> Result<Option<Container>, RuntimeError> {
        match self.inspect_raw(container_id).await? {
            Some(answer) => self.parsed(&answer).await,
            None => Ok(None),
        }
    }

    async fn pull(
        &self,
        wanted: &Fetch,
        on_progress: OnProgress<'_>,
    ) -> Result<Digest, RuntimeError> {
        Box::pin(self.fetch(wanted, on_progress)).await
    }

    async fn create(&self, rental: &DesiredRental) -> Result<Created, RuntimeError> {
        Box::pin(self.make(rental)).await
    }

    async fn start(&self, container_id: &str) -> Result<(), RuntimeError> {
        let client = self.engine.client().await?;
        tracing::debug!(container.id = short(container_id), "start asked for");
        match client
            .start_container(container_id, None::<StartContainerOptions>)
            .await
        {
            Ok(()) => {
                self.police.expect_new();
                Ok(())
            }
            Err(error) if is_status(&error, 304) => Ok(()),
            Err(error) => {
                let refused = self.engine.classify(error, code::START_FAILED);
                self.disks.refused(&refused);
                Err(refused)
            }
        }
    }

    async fn disk_use(&self) -> Result<Vec<DiskUse>, RuntimeError> {
        Ok(self.police.disk_use())
    }

    async fn stop(&self, container_id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let client = self.engine.client().await?;
        let options = StopContainerOptions {
            t: Some(i32::try_from(grace.as_secs()).unwrap_or(i32::MAX)),
            ..StopContainerOptions::default()
        };
        match client.stop_container(container_id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if is_status(&error, 304) || is_status(&error, 404) => Ok(()),
            Err(error) => Err(self.engine.classify(error, code::ENGINE_REFUSED)),
        }
    }

    async fn remove(&self, container_id: &str) -> Result<(), RuntimeError> {
        self.remove_with_network(container_id).await
    }

    fn events(&self, since: Timestamp) -> BoxStream<'static, Result<Event, RuntimeError>> {
        // whoever listens anew had lost the engine: a restarted one may have written rules of its own
        self.networks.look_soon();
        let client = match self.engine.connect() {
            Ok(client) => client,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let micros = since.as_micros();
        let options = EventsOptions {
            since: Some(format!(
                "{}.{:06}",
                micros.div_euclid(1_000_000),
                micros.rem_euclid(1_000_000)
            )),
            until: None,
            filters: Some(HashMap::from([
                ("type".to_owned(), vec!["container".to_owned()]),
                (
                    "label".to_owned(),
                    vec![format!("{LABEL_NODE}={}", self.scope)],
                ),
            ])),
        };
        let news = self.police.news().map(|event| Some(Ok(event)));
        let engines = stream::once(async move { client.negotiate_version().await })
            .map_ok(move |client| client.events(Some(options.clone())))
            .try_flatten()
            .map_err(|error| engine::unavailable(&error))
            .try_filter_map(|message| async move { Ok(message.actor.and_then(parse::event)) });
        // when the engine's end, all end
        let engines = engines.map(Some).chain(stream::iter([None]));
        stream::select(engines.boxed(), news)
            .take_while(|event| std::future::ready(event.is_some()))
            .filter_map(std::future::ready)
            .boxed()
    }

    async fn enter(&self, container_id: &str) -> Result<Pipe, RuntimeError> {
        Box::pin(self.entered(container_id)).await
    }

    fn logs(
        &self,
        container_id: &str,
        query: LogsQuery,
    ) -> BoxStream<'static, Result<Entry, RuntimeError>> {
        self.read_log(container_id, query)
    }
}

/// As Docker's own command shows it.
fn short(container_id: &str) -> &str {
    container_id.get(..12).unwrap_or(container_id)
}
