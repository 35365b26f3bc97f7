//! A node for one test: a folder, a label of its own on an engine, and the agent's reconciler started and ended at will.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use node_agent::{
    config::Config,
    kept::KeptLogs,
    reconcile::{self, Handle},
    rental::LiveRental,
    runtime::{cache, docker::DockerRuntime},
};
use shared::{
    clock::{Clock, SystemClock},
    container::RawSpec,
    id::Ids,
    resources::Resources,
    wire::{
        desired::{DesiredRental, DesiredState, Lease, Wanted},
        observed::{ExitCause, Phase},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::engine::{self, Engine};

/// Longer than anything here takes on a busy machine; a failing test ends then.
const PATIENCE: Duration = Duration::from_secs(90);
/// Long enough for any test.
pub(super) const LEASE_MS: i64 = 600_000;
pub(super) const MIB: i64 = 1 << 20;

/// A node whose containers and disk outlive its agent.
pub(super) struct Node {
    folder: PathBuf,
    scope: String,
    engine: Engine,
    ids: Ids,
}

/// An agent's reconciler.
pub(super) struct Agent {
    pub(super) handle: Handle,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

/// What tests allow: registries of this machine besides the public ones.
pub(super) fn images() -> cache::Settings {
    let mut settings = cache::Settings::default();
    let here = "127.0.0.1:*".parse().expect("a pattern");
    settings.rules.registries.push(here);
    settings
}

impl Node {
    /// On the engine that this machine has; its image is there.
    pub(super) fn new(name: &str) -> Self {
        engine::shared();
        Self::on(Engine::shared(), name)
    }

    pub(super) fn on(engine: Engine, name: &str) -> Self {
        let scope = format!("test-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("ramarket-{scope}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self {
            folder,
            scope,
            engine,
            ids: Ids::System,
        }
    }

    pub(super) const fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn scope(&self) -> &str {
        &self.scope
    }

    pub(super) fn runtime(&self) -> Arc<DockerRuntime> {
        let host = self.engine.host();
        let runtime = DockerRuntime::new(Some(&host), self.scope.clone()).expect("a unix socket");
        let inside = system_tests::program::binary("ramarket-inside");
        Arc::new(runtime.with_images(images()).with_inside(inside))
    }

    pub(super) async fn start(&self) -> Agent {
        self.start_on(self.runtime()).await
    }

    /// Where this node keeps logs.
    pub(super) fn kept(&self) -> KeptLogs {
        let limits = Config::default().kept_logs();
        let folder = self.folder.join("logs");
        KeptLogs::open(folder, limits, Arc::new(SystemClock)).expect("a folder")
    }

    /// An agent on this runtime.
    pub(super) async fn start_on(&self, runtime: Arc<DockerRuntime>) -> Agent {
        let shutdown = CancellationToken::new();
        let tracker = TaskTracker::new();
        let handle = reconcile::start(
            &self.folder,
            runtime,
            Arc::new(self.kept()),
            Arc::new(SystemClock),
            "this-boot".to_owned(),
            shutdown.clone(),
            &tracker,
        )
        .await
        .expect("started");
        Agent {
            handle,
            shutdown,
            tracker,
        }
    }

    /// A rental of 256 MiB and half a CPU.
    pub(super) fn rental(&self, image: &str, command: &[&str]) -> DesiredRental {
        let spec = RawSpec {
            image: image.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            ..RawSpec::default()
        };
        DesiredRental {
            rental_id: self.ids.mint(),
            lease_id: self.ids.mint(),
            wanted: Wanted::Run,
            spec: spec.try_into().expect("valid"),
            resources: Resources {
                ram_bytes: 256 * MIB,
                cpu_millis: 500,
                ..Resources::default()
            },
            gpus: Vec::new(),
            internet: true,
            isolation: None,
            image: None,
            private_image: false,
        }
    }

    /// Removes images by name, and what this node's cache calls them: the engine serves others as well.
    pub(super) fn forget_images(&self, names: &[String]) {
        for name in names {
            let inspect = [
                "image",
                "inspect",
                "--format",
                "{{join .RepoTags \" \"}}",
                name,
            ];
            for tag in self.engine.docker(&inspect).split_whitespace() {
                if tag.starts_with("ramarket.local/cache/") {
                    self.engine.docker(&["rmi", tag]);
                }
            }
            self.engine.docker(&["rmi", name]);
        }
    }

    /// Ids of this node's containers.
    pub(super) fn containers(&self) -> Vec<String> {
        let label = format!("label=ramarket.node={}", self.scope);
        let text = self
            .engine
            .docker(&["ps", "-aq", "--no-trunc", "--filter", &label]);
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Waits until this node has this many containers.
    pub(super) async fn until_containers(&self, count: usize) {
        let mut look = tokio::time::interval(Duration::from_millis(50));
        let wait = async {
            while self.containers().len() != count {
                look.tick().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(
            waited.is_ok(),
            "never {count} containers: {:?}",
            self.containers()
        );
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for id in self.containers() {
            self.engine.docker(&["rm", "-fv", &id]);
        }
        let label = format!("label=ramarket.node={}", self.scope);
        let networks = self
            .engine
            .docker(&["network", "ls", "-q", "--filter", &label]);
        for id in networks.split_whitespace() {
            self.engine.docker(&["network", "rm", id]);
        }
        remove_folder(&self.folder);
    }
}

pub(super) fn remove_folder(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        eprintln!("the test's folder {} is left: {error}", folder.display());
    }
}

impl Agent {
    /// The market's reply: these rentals, each with a lease of this length.
    pub(super) async fn wish(&self, generation: i64, rentals: &[&DesiredRental], lease_ms: i64) {
        let leases = rentals.iter().map(|rental| Lease {
            rental_id: rental.rental_id,
            lease_id: rental.lease_id,
            lease_ms,
        });
        let desired = DesiredState {
            generation,
            rentals: rentals.iter().map(|&rental| rental.clone()).collect(),
        };
        self.handle
            .apply(desired, leases.collect(), SystemClock.boot_ms())
            .await
            .expect("durable");
    }

    /// Waits until this rental is as `holds` says, and returns how it is then.
    pub(super) async fn until(
        &self,
        rental: &DesiredRental,
        holds: impl Fn(&Phase) -> bool,
    ) -> LiveRental {
        let mine = |live: &[LiveRental]| {
            let mut live = live.iter();
            live.find(|r| r.observed.rental_id == rental.rental_id && holds(&r.observed.phase))
                .cloned()
        };
        let mut live = self.handle.live();
        let waited =
            tokio::time::timeout(PATIENCE, live.wait_for(|live| mine(live).is_some())).await;
        let found = waited
            .ok()
            .and_then(Result::ok)
            .and_then(|live| mine(&live));
        found.unwrap_or_else(|| panic!("never: {:?}", *self.handle.live().borrow()))
    }

    pub(super) async fn until_running(&self, rental: &DesiredRental) -> LiveRental {
        self.until(rental, |phase| *phase == Phase::Running).await
    }

    pub(super) async fn until_exited(&self, rental: &DesiredRental, by: ExitCause) -> LiveRental {
        self.until(
            rental,
            |phase| matches!(phase, Phase::Exited { cause, .. } if *cause == by),
        )
        .await
    }

    /// Waits until the rental failed with this code; returns the reason.
    pub(super) async fn until_failed(&self, rental: &DesiredRental, wanted: &str) -> String {
        let live = self
            .until(rental, |phase| matches!(phase, Phase::Failed { .. }))
            .await;
        match live.observed.phase {
            Phase::Failed { code, reason } if code == wanted => reason,
            other => panic!("expected {wanted}, got {other:?}"),
        }
    }

    pub(super) async fn end(self) {
        self.shutdown.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
