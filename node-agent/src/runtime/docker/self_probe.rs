//! The hourly proof that rentals' networks are closed where they must be.
//!
//! # Invariants
//! - Anything that gets through shuts all networks until a later look finds nothing: no new rental gets one, and the finding says what it was.
//! - A look that couldn't be made says so and shuts nothing: the table is compared every 30 seconds besides.

use std::{net::TcpListener, path::Path};

use shared::{
    id::Ids,
    resources::{Finding, FindingStatus},
};

use super::DockerRuntime;
use crate::runtime::network::{
    self,
    probe::{StandIn, Target, control, targets},
};

/// The finding's name.
pub(super) const CHECK: &str = "isolation_probe";

impl DockerRuntime {
    /// Looks, and shuts or opens networks by what was found. Returns whether a look was made and found nothing.
    pub(super) async fn probe(&self) -> bool {
        let names = [
            network::new_name(&Ids::System, true),
            network::new_name(&Ids::System, true),
        ];
        let held = names.each_ref().map(|name| self.hold(name.clone()));
        let found = self.look([&names[0], &names[1]]).await;
        for name in &names {
            if let Err(error) = self.remove_network(name).await {
                tracing::warn!(network.name = name, %error, "the probe's network can't be removed; the next sweep tries again");
            }
        }
        drop(held);
        let (finding, reached) = judged(found);
        let well = finding.status == FindingStatus::Ok;
        self.networks.probed(finding, reached);
        well
    }

    /// What a rental could reach.
    async fn look(&self, names: [&String; 2]) -> anyhow::Result<Vec<Target>> {
        anyhow::ensure!(
            self.networks.guard.stands(),
            "the firewall's table isn't there"
        );
        let mut stand_ins = Vec::new();
        for (name, end) in names.into_iter().zip(["a", "b"]) {
            let subnet = self.make_network(name, true).await?;
            let digits = name.get(4..).unwrap_or_default();
            stand_ins.push(StandIn::on(name, subnet, &format!("rvp{end}{digits}")).await?);
        }
        let [rental, neighbour] = stand_ins.as_slice() else {
            anyhow::bail!("two stand-ins are needed");
        };
        control(rental.listen().await?).await?;
        let there = neighbour.listen().await?;
        let door = TcpListener::bind("0.0.0.0:0")?;
        let targets = targets(
            Path::new("/proc"),
            door.local_addr()?.port(),
            there.local_addr()?,
        )?;
        rental.reaches(targets).await
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
            let mend = "something lets these packets past the table `inet ramarket`: look at `nft list ruleset`, then restart the agent";
            (
                Finding::new(CHECK, FindingStatus::Failed, &cause, mend),
                Some(cause),
            )
        }
        Err(error) => {
            let cause = format!("{error:#}");
            tracing::warn!(error = cause, "rentals' networks can't be probed");
            let mend = "install iproute2 and util-linux, and let the agent's helper use CAP_NET_ADMIN and CAP_SYS_ADMIN";
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
