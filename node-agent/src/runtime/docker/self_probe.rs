//! The hourly proof that rentals' networks are closed where they must be: two containers like any rental's, one that listens and one that tries.
//!
//! # Invariants
//! - Anything that gets through shuts all networks until a later look finds nothing: no new rental gets one, and the finding says what it was.
//! - A look that couldn't be made says so and shuts nothing: the table is compared every 30 seconds besides.
//! - Its containers aren't rentals: they carry [`LABEL_PROBE`] and not the node's label. Those of a look that was cut off go with the next.

use std::{collections::HashMap, net::SocketAddr, path::Path, time::Duration};

use anyhow::Context as _;
use bollard::{
    container::LogOutput,
    models::{ContainerCreateBody, ContainerStateStatusEnum, ContainerSummary, HostConfig},
    query_parameters::{
        CreateContainerOptions, ListContainersOptions, LogsOptions, StartContainerOptions,
    },
};
use futures_util::TryStreamExt as _;
use shared::{
    id::Ids,
    resources::{Finding, FindingStatus, Resources},
};

use super::{DockerRuntime, networks::InHand, probe_image::ProbeImage};
use crate::runtime::{
    LABEL_PROBE, LABEL_RENTAL, RuntimeError, code, label,
    network::{
        self,
        probe::{self, Target},
    },
    profile::{self, Cage},
};

/// The finding's name.
pub(super) const CHECK: &str = "isolation_probe";
/// From the start of the one that tries to its end.
const WITHIN: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// What the two may use.
const RESOURCES: Resources = Resources {
    ram_bytes: 64 << 20,
    cpu_millis: 1_000,
    gpu_count: 0,
    disk_bytes: 0,
};

impl DockerRuntime {
    /// Looks, and shuts or opens networks by what was found. Returns whether a look was made and found nothing.
    pub(super) async fn probe(&self) -> bool {
        let found = self.look().await;
        if let Err(error) = self.remove_probes().await {
            tracing::warn!(%error, "the probe's containers can't be removed; the next look tries again");
        }
        let (finding, reached) = judged(found);
        let well = finding.status == FindingStatus::Ok;
        self.networks.probed(finding, reached);
        well
    }

    /// What a rental could reach.
    pub(super) async fn look(&self) -> anyhow::Result<Vec<Target>> {
        anyhow::ensure!(
            self.networks.guard.stands(),
            "the firewall's table isn't there"
        );
        self.remove_probes().await?;
        let image = self.probe_image().await?;
        // made for the look: after a breach no rental gets one, and only a look ends that
        let (neighbour, own) = (self.look_network().await?, self.look_network().await?);
        let listening = self
            .probe_container(&image, &neighbour.name, probe::listening())
            .await?;
        let address = self.address(&listening, &neighbour.name).await?;
        let targets = probe::targets(Path::new("/proc"), address)?;
        let trying = self
            .probe_container(&image, &own.name, probe::trying(&targets))
            .await?;
        tokio::time::timeout(WITHIN, self.ended(&trying))
            .await
            .context("the probe didn't end")??;
        probe::verdict(&self.said(&trying).await?, &targets)
    }

    async fn look_network(&self) -> Result<InHand<'_>, RuntimeError> {
        let held = self.hold(network::new_name(&Ids::System, true));
        self.make_network(&held.name, true).await?;
        Ok(held)
    }

    /// Starts one, caged as any rental whose image doesn't run as root.
    async fn probe_container(
        &self,
        image: &ProbeImage,
        network: &str,
        words: Vec<String>,
    ) -> Result<String, RuntimeError> {
        let known = self.ground().await?;
        let cage = Cage {
            scope: &self.scope,
            ground: &known.0,
            root_image: false,
            network,
            // the network is what is looked at, and it is the same for every runtime
            runtime: None,
            dns: &[],
            means: None,
            root_bytes: 0,
        };
        let host = HostConfig {
            dns: None,
            ..profile::host_config(&RESOURCES, &[], &cage)
        };
        let body = ContainerCreateBody {
            image: Some(image.reference.clone()),
            cmd: Some(image.command.iter().cloned().chain(words).collect()),
            user: Some("65534:65534".to_owned()),
            labels: Some(HashMap::from([(
                LABEL_PROBE.to_owned(),
                self.scope.clone(),
            )])),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        let client = self.engine.client().await?;
        let name = network::new_name(&Ids::System, true).replace("ram-", "ramarket-probe-");
        let options = CreateContainerOptions {
            name: Some(name),
            ..CreateContainerOptions::default()
        };
        let refused = |error| self.engine.classify(error, code::CREATE_FAILED);
        let created = client
            .create_container(Some(options), body)
            .await
            .map_err(refused)?;
        client
            .start_container(&created.id, None::<StartContainerOptions>)
            .await
            .map_err(refused)?;
        Ok(created.id)
    }

    /// Where the one that listens is called.
    async fn address(&self, container: &str, network: &str) -> anyhow::Result<SocketAddr> {
        let held = self
            .inspect_raw(container)
            .await?
            .context("the listening container is gone")?;
        let networks = held
            .network_settings
            .and_then(|settings| settings.networks)
            .unwrap_or_default();
        let address = networks
            .get(network)
            .and_then(|end| end.ip_address.as_deref());
        let address = address
            .context("the listening container has no address")?
            .parse()?;
        Ok(SocketAddr::new(address, probe::NEIGHBOUR_PORT))
    }

    async fn ended(&self, container: &str) -> anyhow::Result<()> {
        loop {
            let held = self
                .inspect_raw(container)
                .await?
                .context("the probe is gone")?;
            let status = held.state.and_then(|state| state.status);
            match status {
                Some(ContainerStateStatusEnum::EXITED) => return Ok(()),
                Some(ContainerStateStatusEnum::DEAD) => anyhow::bail!("the probe died"),
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    async fn said(&self, container: &str) -> anyhow::Result<String> {
        let client = self.engine.client().await?;
        let options = LogsOptions {
            stdout: true,
            ..LogsOptions::default()
        };
        let lines: Vec<LogOutput> = client.logs(container, Some(options)).try_collect().await?;
        Ok(lines.iter().map(ToString::to_string).collect())
    }

    /// Removes the probe's containers with their networks, of this look and of one that was cut off.
    pub(super) async fn remove_probes(&self) -> Result<(), RuntimeError> {
        let client = self.engine.client().await?;
        let probes = format!("{LABEL_PROBE}={}", self.scope);
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![probes])])),
            ..ListContainersOptions::default()
        };
        let found = self
            .engine
            .read(client.list_containers(Some(options)))
            .await?;
        // whatever a rental's image says of itself, it is no probe
        let is_rental = |container: &ContainerSummary| {
            let labels = container.labels.as_ref();
            labels.is_some_and(|labels| label(labels, LABEL_RENTAL).is_some())
        };
        let probes = found.into_iter().filter(|found| !is_rental(found));
        for container in probes.filter_map(|container| container.id) {
            self.remove_with_network(&container).await?;
        }
        Ok(())
    }
}

/// The finding, and what was reached if anything was.
fn judged(found: anyhow::Result<Vec<Target>>) -> (Finding, Option<String>) {
    match found {
        Ok(reached) if reached.is_empty() => {
            let cause = "nothing of this machine or its network can be reached from a rental";
            (Finding::new(CHECK, FindingStatus::Ok, cause, ""), None)
        }
        Ok(reached) => {
            let cause = described(&reached);
            tracing::error!(
                reached = cause,
                "rentals can reach what must be closed to them; none gets a network"
            );
            let mend = "something lets these packets past the table `inet ramarket`: look at `nft list ruleset`, then restart the agent's helper";
            (
                Finding::new(CHECK, FindingStatus::Failed, &cause, mend),
                Some(cause),
            )
        }
        Err(error) => {
            let cause = format!("{error:#}");
            tracing::warn!(error = cause, "rentals' networks can't be probed");
            let mend = "look at what the cause names; the next look is in five minutes";
            (
                Finding::new(CHECK, FindingStatus::Warning, &cause, mend),
                None,
            )
        }
    }
}

fn described(reached: &[Target]) -> String {
    /// As many are named; the rest are counted.
    const NAMED: usize = 5;
    let named: Vec<String> = reached
        .iter()
        .take(NAMED)
        .map(|target| format!("{} at {}", target.what, target.address))
        .collect();
    let rest = reached.len().saturating_sub(NAMED);
    let more = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    format!("a rental can reach {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_decides_the_finding() {
        let (well, reached) = judged(Ok(Vec::new()));
        assert_eq!((well.status, reached), (FindingStatus::Ok, None));
        let (unknown, reached) = judged(Err(anyhow::anyhow!("no engine")));
        assert_eq!((unknown.status, reached), (FindingStatus::Warning, None));
        let target = |port| Target {
            what: "this machine",
            address: SocketAddr::new([10, 0, 0, 1].into(), port),
        };
        let (broken, reached) = judged(Ok((1..=7).map(target).collect()));
        assert_eq!(broken.status, FindingStatus::Failed);
        let reached = reached.expect("named");
        assert!(
            reached.contains("this machine at 10.0.0.1:1") && reached.ends_with("and 2 more"),
            "{reached}"
        );
    }
}
