//! Networks of rentals at the engine: made, kept in stock, given back.
//!
//! # Invariants
//! - A network serves one container in its life and is removed with it; one that nobody uses when the agent starts is removed, not reused.
//! - Networks in stock were never used; there are at most [`STOCK`] of them, and only while the firewall's table stands.
//! - Whether a network is used is asked of the engine's containers, in all states, and of the creations under way.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use bollard::{
    Docker,
    query_parameters::{ListContainersOptions, ListNetworksOptions},
};
use shared::{
    id::Ids,
    resources::{Finding, FindingStatus, Isolation},
};
use tokio::sync::Notify;

use super::DockerRuntime;
use crate::runtime::{
    LABEL_NODE, RuntimeError, code,
    isolation::Decision,
    network::{self, Settings, guard::Guard, rules},
    profile::NO_NETWORK,
};

/// Networks that are made ahead, so that a launch needn't wait for one.
const STOCK: usize = 2;

/// The networks of a node.
#[derive(Debug)]
pub(super) struct Networks {
    pub(super) settings: Settings,
    pub(super) guard: Guard,
    state: Mutex<State>,
    refilling: tokio::sync::Mutex<()>,
    /// One was taken from the stock.
    pub(super) taken: Notify,
    /// The engine may have changed something.
    pub(super) look: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Open ones that were never used.
    stock: Vec<String>,
    /// Handed to a creation that hasn't ended.
    in_hand: BTreeSet<String>,
    /// Why the firewall's table isn't there.
    unguarded: Option<String>,
    /// What the probe reached.
    breach: Option<String>,
    /// What the probe said last.
    probed: Option<Finding>,
}

impl Networks {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            guard: Guard::new(settings.clone()),
            settings,
            state: Mutex::default(),
            refilling: tokio::sync::Mutex::new(()),
            taken: Notify::new(),
            look: Notify::new(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the firewall before its time.
    pub(super) fn look_soon(&self) {
        self.look.notify_one();
    }

    /// Takes what the probe found: no rental gets a network while it reaches something.
    pub(super) fn probed(&self, finding: Finding, reached: Option<String>) {
        let mut state = self.state();
        // a look that couldn't be made takes nothing back
        if finding.status != FindingStatus::Warning {
            state.breach = reached;
        }
        state.probed = Some(finding);
    }

    /// In stock or in hand.
    fn kept(&self) -> BTreeSet<String> {
        let state = self.state();
        state.stock.iter().chain(&state.in_hand).cloned().collect()
    }

    pub(super) fn in_stock(&self) -> usize {
        self.state().stock.len()
    }
}

/// A network for a container that is being created; dropping it says that the creation has ended, well or not.
pub(super) struct InHand<'a> {
    networks: &'a Networks,
    pub(super) name: String,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.networks.state().in_hand.remove(&self.name);
    }
}

impl DockerRuntime {
    /// What the inventory tells.
    pub(super) fn isolation(&self, decision: &Decision) -> Isolation {
        let mut findings = decision.findings.clone();
        let state = self.networks.state();
        findings.push(match &state.unguarded {
            Some(why) => Finding::new(
                "firewall",
                FindingStatus::Failed,
                &format!("rentals can't be kept apart, so none gets a network: {why}"),
                "install the package nftables, and let the agent's helper use CAP_NET_ADMIN",
            ),
            None if self.networks.guard.stands() => Finding::new(
                "firewall",
                FindingStatus::Ok,
                "the rules that keep rentals apart are in force",
                "",
            ),
            None => Finding::new(
                "firewall",
                FindingStatus::Warning,
                "the rules that keep rentals apart weren't looked at yet",
                "wait a moment",
            ),
        });
        findings.extend(state.probed.clone());
        Isolation {
            class: decision.class,
            network: state.unguarded.is_none() && self.networks.guard.stands(),
            breach: state.breach.clone(),
            findings,
        }
    }

    /// A network for a new container: from the stock, or made now. Where nothing can keep rentals apart, one without internet has no
    /// network at all, and one with is refused.
    pub(super) async fn network(&self, internet: bool) -> Result<InHand<'_>, RuntimeError> {
        if !self.networks.guard.stands() {
            self.guard().await;
        }
        let shut = {
            let state = self.networks.state();
            state.unguarded.clone().or_else(|| state.breach.clone())
        };
        match shut {
            Some(why) if internet => {
                return Err(RuntimeError::refused(
                    code::NOT_SUPPORTED,
                    format!(
                        "this node can't keep a network apart from its own ({why}); rent without internet or choose another node"
                    ),
                ));
            }
            Some(_) => return Ok(self.hold(NO_NETWORK.to_owned())),
            None => {}
        }
        if internet && let Some(held) = self.stocked() {
            return Ok(held);
        }
        let held = self.hold(network::new_name(&Ids::System, internet));
        self.make_network(&held.name, internet).await?;
        Ok(held)
    }

    /// From stock into the hand at once: a sweep between the two would take it for an orphan.
    fn stocked(&self) -> Option<InHand<'_>> {
        let mut state = self.networks.state();
        let name = state.stock.pop()?;
        state.in_hand.insert(name.clone());
        self.networks.taken.notify_one();
        Some(InHand {
            networks: &self.networks,
            name,
        })
    }

    /// Removes a network that no container got.
    pub(super) async fn give_back(&self, held: InHand<'_>) {
        if let Err(error) = self.remove_network(&held.name).await {
            tracing::warn!(network.name = held.name, %error, "a network that nobody uses can't be removed; the next sweep tries again");
        }
    }

    pub(super) fn hold(&self, name: String) -> InHand<'_> {
        self.networks.state().in_hand.insert(name.clone());
        InHand {
            networks: &self.networks,
            name,
        }
    }

    /// The first look at the firewall's table, if there was none.
    pub(super) async fn guard_first(&self) {
        let looked = self.networks.guard.stands() || self.networks.state().unguarded.is_some();
        if !looked {
            self.guard().await;
        }
    }

    /// Looks at the firewall's table; without it, networks are shut.
    pub(super) async fn guard(&self) {
        match self.networks.guard.check().await {
            Ok(put) => {
                if put {
                    tracing::info!("the rules that keep rentals apart are in force");
                }
                self.networks.state().unguarded = None;
            }
            Err(error) => {
                let why = format!("{error:#}");
                tracing::error!(
                    error = why,
                    "rentals can't be kept apart; none gets a network"
                );
                self.networks.state().unguarded = Some(why);
            }
        }
    }

    /// A network with internet as a rental would get it, for measurements that compare with one; its caller removes it.
    ///
    /// # Errors
    /// The engine's, or the firewall's table can't be put in force.
    pub async fn spare_network(&self) -> Result<String, RuntimeError> {
        Ok(self.network(true).await?.name.clone())
    }

    /// Removes networks of this node that no container has.
    pub(super) async fn sweep_networks(&self) -> Result<(), RuntimeError> {
        let client = self.engine.client().await?;
        // what is made after this list isn't in it
        let made = self.own_networks(&client).await?;
        // between the two questions: what leaves a hand has a container by then, and the second answer tells of it
        let kept = self.networks.kept();
        let used = self.used_networks(&client).await?;
        for name in made.difference(&used).filter(|name| !kept.contains(*name)) {
            match self.remove_network(name).await {
                Ok(()) => tracing::info!(
                    network.name = name,
                    "a network that no rental has is removed"
                ),
                Err(error) => {
                    tracing::warn!(network.name = name, %error, "a network that no rental has can't be removed");
                }
            }
        }
        // somebody may have removed one by hand
        self.networks
            .state()
            .stock
            .retain(|name| made.contains(name));
        Ok(())
    }

    /// Whether a network carries this node's label.
    pub(super) async fn is_own_network(&self, name: &str) -> Result<bool, RuntimeError> {
        let client = self.engine.client().await?;
        Ok(self.own_networks(&client).await?.contains(name))
    }

    async fn own_networks(&self, client: &Docker) -> Result<BTreeSet<String>, RuntimeError> {
        let label = format!("{LABEL_NODE}={}", self.scope);
        let options = ListNetworksOptions {
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
        };
        let found = self
            .engine
            .read(client.list_networks(Some(options)))
            .await?;
        let names = found.into_iter().filter_map(|network| network.name);
        Ok(names
            .filter(|name| name.starts_with(rules::PREFIX))
            .collect())
    }

    async fn used_networks(&self, client: &Docker) -> Result<BTreeSet<String>, RuntimeError> {
        let label = format!("{LABEL_NODE}={}", self.scope);
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
            ..ListContainersOptions::default()
        };
        let found = self
            .engine
            .read(client.list_containers(Some(options)))
            .await?;
        let modes = found
            .into_iter()
            .filter_map(|container| container.host_config?.network_mode);
        Ok(modes.collect())
    }

    /// Makes what the stock lacks; a call beside another one does nothing.
    pub(super) async fn stock_networks(&self) -> Result<(), RuntimeError> {
        let Ok(_turn) = self.networks.refilling.try_lock() else {
            return Ok(());
        };
        while self.networks.guard.stands() && self.networks.in_stock() < STOCK {
            let held = self.hold(network::new_name(&Ids::System, true));
            self.make_network(&held.name, true).await?;
            self.networks.state().stock.push(held.name.clone());
        }
        Ok(())
    }
}
