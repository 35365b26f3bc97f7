//! Docker's own account of a node's containers, written down as it happens: agents remove containers that ended, and an engine
//! keeps few events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::EventMessage,
    query_parameters::{EventsOptions, InspectContainerOptions, ListContainersOptions},
};
use futures_util::StreamExt as _;
use shared::{
    clock::{Clock as _, SystemClock},
    time::Timestamp,
};
use system_tests::{containers::Engine, wait};
use tokio::task::JoinHandle;

/// Between two tries to follow an engine that is away.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
const LABEL_RENTAL: &str = "ramarket.rental";

/// What Docker said about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) rental_id: String,
    /// Of its first process, on the host.
    pub(crate) pid: i64,
    pub(crate) started_at: Timestamp,
    /// `FinishedAt`; `None` while it runs.
    pub(crate) finished_at: Option<Timestamp>,
    /// Events of a start.
    pub(crate) starts: BTreeSet<i64>,
}

impl Life {
    /// From `StartedAt` to `FinishedAt`, milliseconds.
    pub(crate) fn ran_ms(&self) -> i64 {
        let finished = self.finished_at.expect("it ended");
        finished.ms_since(self.started_at)
    }
}

type Lives = Arc<Mutex<BTreeMap<String, Life>>>;

/// Follows the engine until dropped.
pub(crate) struct Witness {
    lives: Lives,
    task: JoinHandle<()>,
}

impl Witness {
    /// Watches the containers that carry the node's label.
    pub(crate) fn of(engine: &Engine, node_id: &str) -> Self {
        let lives = Lives::default();
        let follower = Follower {
            host: engine.host(),
            label: format!("ramarket.node={node_id}"),
            lives: Arc::clone(&lives),
        };
        Self {
            lives,
            task: tokio::spawn(follower.follow()),
        }
    }

    /// The one container of a rental, once Docker told of its start.
    ///
    /// # Panics
    /// If it had several containers, or one was started twice.
    pub(crate) async fn life_of(&self, rental_id: &str) -> Life {
        let found = wait::until(&format!("Docker tells of {rental_id}"), || async {
            let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
            let mine = lives.values().filter(|life| life.rental_id == rental_id);
            let mine: Vec<Life> = mine.cloned().collect();
            (!mine.is_empty()).then_some(mine)
        })
        .await;
        let [life] = &found[..] else {
            panic!("{rental_id} has several containers: {found:?}");
        };
        assert!(life.starts.len() <= 1, "started twice: {life:?}");
        life.clone()
    }

    /// As [`Witness::life_of`], once it ended.
    pub(crate) async fn end_of(&self, rental_id: &str) -> Life {
        wait::until(&format!("Docker ended {rental_id}"), || async {
            let life = self.life_of(rental_id).await;
            life.finished_at.is_some().then_some(life)
        })
        .await
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Follower {
    host: String,
    label: String,
    lives: Lives,
}

impl Follower {
    async fn follow(self) {
        let mut since = SystemClock.now();
        loop {
            let docker = Docker::connect_with_unix(&self.host, 30, API_DEFAULT_VERSION);
            let Ok(docker) = docker else {
                // an engine that was killed, or is about to make its socket anew
                wait::pass(AGAIN_AFTER).await;
                continue;
            };
            let filters = [
                ("type", "container".to_owned()),
                ("label", self.label.clone()),
            ];
            let filters = filters.map(|(name, value)| (name.to_owned(), vec![value]));
            let mut events = docker.events(Some(EventsOptions {
                since: Some(since.as_secs().to_string()),
                until: None,
                filters: Some(HashMap::from(filters)),
            }));
            self.look(&docker).await;
            while let Some(Ok(event)) = events.next().await {
                since = event
                    .time_nano
                    .map_or(since, |nano| Timestamp::from_micros(nano / 1_000));
                self.take(&docker, event).await;
            }
            wait::pass(AGAIN_AFTER).await;
        }
    }

    /// What is there, also of what happened while nobody listened.
    async fn look(&self, docker: &Docker) {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([(
                "label".to_owned(),
                vec![self.label.clone()],
            )])),
            ..ListContainersOptions::default()
        };
        let found = docker.list_containers(Some(options)).await;
        for id in found.unwrap_or_default().into_iter().filter_map(|c| c.id) {
            self.inspect(docker, &id, None).await;
        }
    }

    async fn take(&self, docker: &Docker, event: EventMessage) {
        let Some(id) = event.actor.and_then(|actor| actor.id) else {
            return;
        };
        let nano = event.time_nano.unwrap_or_default();
        match event.action.as_deref() {
            Some("start") => {
                self.inspect(docker, &id, None).await;
                let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(life) = lives.get_mut(&id) {
                    life.starts.insert(nano);
                }
            }
            Some("die") => self.inspect(docker, &id, Some(nano)).await,
            _ => {}
        }
    }

    /// Writes down what `docker inspect` says; of a container that is gone already, the moment of the event of its end.
    async fn inspect(&self, docker: &Docker, id: &str, died_nano: Option<i64>) {
        let asked = docker.inspect_container(id, None::<InspectContainerOptions>);
        let found = asked.await;
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(found) = found else {
            if let (Some(life), Some(nano)) = (lives.get_mut(id), died_nano) {
                life.finished_at
                    .get_or_insert(Timestamp::from_micros(nano / 1_000));
            }
            return;
        };
        let labels = found.config.and_then(|config| config.labels);
        let rental_id = labels.and_then(|mut labels| labels.remove(LABEL_RENTAL));
        let state = found.state.unwrap_or_default();
        let started = moment(state.started_at.as_deref());
        let (Some(rental_id), Some(started_at)) = (rental_id, started) else {
            return;
        };
        let life = lives.entry(id.to_owned()).or_insert_with(|| Life {
            rental_id,
            pid: 0,
            started_at,
            finished_at: None,
            starts: BTreeSet::new(),
        });
        assert_eq!(life.started_at, started_at, "{id} was started twice");
        if state.running == Some(true) {
            life.pid = state.pid.unwrap_or_default();
        } else {
            life.finished_at = moment(state.finished_at.as_deref());
        }
    }
}

/// Docker writes "never" as the year 1.
fn moment(text: Option<&str>) -> Option<Timestamp> {
    let moment = Timestamp::parse_rfc3339(text?).ok()?;
    (moment > Timestamp::from_secs(0)).then_some(moment)
}
