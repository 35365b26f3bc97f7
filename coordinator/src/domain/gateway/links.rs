//! Links of nodes that are held here.
//!
//! # Invariants
//! - A node has one link here: a new one ends the one of before.
//! - A link is known from when it is held until whoever holds it lets it go.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::{id::NodeId, link::session::Session, time::Timestamp};
use tokio_util::sync::CancellationToken;

/// The links.
#[derive(Debug, Default)]
pub struct Links {
    held: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    links: HashMap<NodeId, Link>,
    last_serial: i64,
}

#[derive(Debug)]
struct Link {
    session: Session,
    serial: i64,
    replaced: CancellationToken,
}

/// A link that is held; letting it go is dropping this.
#[derive(Debug)]
pub struct Held {
    links: Arc<Links>,
    /// Whose link it is.
    pub node: NodeId,
    /// Its number in this run: later ones are higher.
    pub serial: i64,
    /// Since when it is held.
    pub linked: Timestamp,
    replaced: CancellationToken,
}

impl Links {
    /// Holds a node's link from `now` on; an older one is told that it was replaced.
    #[must_use]
    pub fn hold(self: &Arc<Self>, node: NodeId, session: Session, now: Timestamp) -> Held {
        let replaced = CancellationToken::new();
        let mut state = self.lock();
        state.last_serial += 1;
        let serial = state.last_serial;
        let link = Link {
            session,
            serial,
            replaced: replaced.clone(),
        };
        if let Some(before) = state.links.insert(node, link) {
            before.replaced.cancel();
        }
        count(&state);
        Held {
            links: Arc::clone(self),
            node,
            serial,
            linked: now,
            replaced,
        }
    }

    /// What opens streams on a node's link, if it is held here.
    #[must_use]
    pub fn session(&self, node: NodeId) -> Option<Session> {
        let state = self.lock();
        state.links.get(&node).map(|link| link.session.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge; nobody has 2^52 links")]
fn count(state: &State) {
    metrics::gauge!("gateway_links").set(state.links.len() as f64);
}

impl Held {
    /// Returns when another link of the node is held instead.
    pub async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.links.lock();
        let current = state.links.get(&self.node);
        if current.is_some_and(|link| link.serial == self.serial) {
            state.links.remove(&self.node);
            count(&state);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        id::Ids,
        link::session::{Role, Started},
    };

    use super::*;

    fn session() -> Session {
        let Started { session, .. } = Session::start(tokio::io::duplex(64).0, Role::Server);
        session
    }

    #[tokio::test]
    async fn a_new_link_ends_the_one_of_before_and_not_the_other_way_round() {
        let links = Arc::new(Links::default());
        let (one, two) = (Ids::System.mint(), Ids::System.mint());
        let now = Timestamp::from_secs(1_800_000_000);
        let first = links.hold(one, session(), now);
        let other = links.hold(two, session(), now);
        let second = links.hold(one, session(), now);
        first.replaced().await;
        assert!(!second.replaced.is_cancelled() && !other.replaced.is_cancelled());
        drop(first);
        assert!(links.session(one).is_some(), "the newer one stays");
        drop(second);
        assert!(links.session(one).is_none() && links.session(two).is_some());
    }
}
