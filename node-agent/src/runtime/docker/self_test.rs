//! A rental of nobody's, from its image to its removal: as any other, caged and limited, on a network of its own.
//!
//! # Invariants
//! - Its containers carry a label of their own in place of the node's: the agent, which may run beside, never sees them.
//! - Whatever fails, what was made is removed; what a test that was cut off left behind goes with the next one.
//! - One at a time.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use shared::{
    clock::{Clock as _, SystemClock},
    container::RawSpec,
    id::Ids,
    resources::Resources,
    wire::desired::{DesiredRental, Wanted},
};

use super::DockerRuntime;
use crate::{
    measure::cgroup,
    runtime::{
        ContainerRuntime, ContainerState, Created, RuntimeError,
        network::probe,
        self_test::{SelfTest, Step},
    },
};

/// The label's value in place of a node's.
const SCOPE: &str = "ramarket-self-test";
/// What the container may use.
const RESOURCES: Resources = Resources {
    ram_bytes: 64 << 20,
    cpu_millis: 500,
    gpu_count: 0,
    disk_bytes: 0,
};
/// How long it may take to be seen running.
const RUNS_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long its process may take to end once asked.
const GRACE: Duration = Duration::from_secs(2);

static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Makes steps, and remembers how they went.
#[derive(Debug, Default)]
struct Walk {
    test: SelfTest,
}

impl Walk {
    /// Makes one; `None` if it failed.
    async fn step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = anyhow::Result<(T, String)>>,
    ) -> Option<T> {
        let begun_ms = SystemClock.boot_ms();
        let done = work.await;
        let took_ms = SystemClock.boot_ms() - begun_ms;
        let (value, well, said) = match done {
            Ok((value, said)) => (Some(value), true, said),
            Err(error) => (None, false, format!("{error:#}")),
        };
        self.test.steps.push(Step {
            name: name.to_owned(),
            took_ms,
            well,
            said,
        });
        value
    }
}

impl DockerRuntime {
    /// As [`ContainerRuntime::self_test`].
    pub(super) async fn test_itself(&self) -> Result<SelfTest, RuntimeError> {
        let _turn = TURN.lock().await;
        let host = format!("unix://{}", self.engine.socket());
        let own = Self::new(Some(&host), SCOPE.to_owned())
            .map_err(|error| RuntimeError::Unavailable(format!("{error:#}")))?
            .with_networks(self.networks.settings.clone());
        own.guard().await;
        own.remove_tests().await?;
        let mut walk = Walk::default();
        Box::pin(own.walk(&mut walk)).await;
        // whatever the walk came to
        own.remove_tests().await?;
        Ok(walk.test)
    }

    async fn walk(&self, walk: &mut Walk) -> Option<()> {
        let rental = walk.step("image", self.test_rental()).await?;
        let id = walk.step("create", self.test_create(&rental)).await?;
        walk.step("start", self.test_start(&id)).await?;
        walk.step("measure", self.test_measure(&id)).await?;
        walk.step("network", Box::pin(self.test_network())).await?;
        walk.step("stop", self.test_stop(&id)).await?;
        walk.step("remove", self.test_remove(&id)).await
    }

    async fn test_rental(&self) -> anyhow::Result<(DesiredRental, String)> {
        let image = self.probe_image().await?;
        let words = image.command.into_iter().chain(probe::listening());
        let spec = RawSpec {
            image: image.reference,
            command: words.collect(),
            env: [].into(),
        };
        let said = format!("{} is there", spec.image);
        let rental = DesiredRental {
            rental_id: Ids::System.mint(),
            lease_id: Ids::System.mint(),
            wanted: Wanted::Run,
            spec: spec.try_into()?,
            resources: RESOURCES,
            gpus: Vec::new(),
            image: None,
            private_image: false,
            internet: true,
            isolation: None,
        };
        Ok((rental, said))
    }

    async fn test_create(&self, rental: &DesiredRental) -> anyhow::Result<(String, String)> {
        match self.create(rental).await? {
            Created::Fresh(id) => Ok((
                id,
                "caged and limited as any rental, and compared with that".to_owned(),
            )),
            Created::Started(_) => anyhow::bail!("a container of this name is there already"),
            Created::NoImage => anyhow::bail!("the image is gone again"),
        }
    }

    async fn test_start(&self, id: &str) -> anyhow::Result<((), String)> {
        self.start(id).await?;
        let runs = async {
            loop {
                let found = self.inspect(id).await?.context("it is gone")?;
                match found.state {
                    ContainerState::Running => return anyhow::Ok(found.pid),
                    ContainerState::Exited(exit) => {
                        anyhow::bail!("it ended at once with exit code {}", exit.code)
                    }
                    _ => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        };
        let pid = tokio::time::timeout(RUNS_WITHIN, runs)
            .await
            .context("it isn't seen running")??;
        Ok((
            (),
            format!("it runs as process {}", pid.unwrap_or_default()),
        ))
    }

    /// As the agent measures: by the container's control groups.
    async fn test_measure(&self, id: &str) -> anyhow::Result<((), String)> {
        let found = self.inspect(id).await?.context("it is gone")?;
        let pid = found.pid.context("it has no process")?;
        let files = cgroup::locate(Path::new("/"), pid, id)?;
        let text = std::fs::read_to_string(&files.memory).context("its memory can't be read")?;
        let used: i64 = text.trim().parse().context("its memory can't be read")?;
        ensure!(used > 0, "it uses no memory at all");
        ensure!(
            used <= RESOURCES.ram_bytes,
            "it uses {used} bytes, more than its limit"
        );
        let limit_mib = RESOURCES.ram_bytes >> 20;
        Ok((
            (),
            format!("it uses {} KiB of its {limit_mib} MiB", used >> 10),
        ))
    }

    /// From a network such as a rental's, that of this machine and of its neighbours must be closed.
    async fn test_network(&self) -> anyhow::Result<((), String)> {
        let reached = self.look().await;
        self.remove_probes().await?;
        let reached = reached?;
        ensure!(
            reached.is_empty(),
            "a rental can reach {} at {}, and {} more",
            reached[0].what,
            reached[0].address,
            reached.len() - 1
        );
        Ok((
            (),
            "nothing of this machine or its network can be reached from a rental".to_owned(),
        ))
    }

    async fn test_stop(&self, id: &str) -> anyhow::Result<((), String)> {
        self.stop(id, GRACE).await?;
        let found = self.inspect(id).await?.context("it is gone")?;
        match found.state {
            ContainerState::Exited(exit) => {
                Ok(((), format!("it ended with exit code {}", exit.code)))
            }
            other => anyhow::bail!("it is {other:?} after its end"),
        }
    }

    async fn test_remove(&self, id: &str) -> anyhow::Result<((), String)> {
        self.remove(id).await?;
        ensure!(self.inspect(id).await?.is_none(), "it is still there");
        Ok(((), "container and network are gone".to_owned()))
    }

    /// Removes what carries the test's label.
    async fn remove_tests(&self) -> Result<(), RuntimeError> {
        debug_assert_eq!(self.scope, SCOPE);
        for container in self.list().await? {
            self.remove(&container.id).await?;
        }
        Ok(())
    }
}
