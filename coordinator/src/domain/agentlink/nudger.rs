//! Nudges: "beat now" to agents whose link is open here. Lost nudges don't matter: the next beat brings everything.
//!
//! # Invariants
//! - Who was nudged for a generation isn't nudged for it again: a beat that brings nothing new would only slow down the start of the
//!   container that the first one asked for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use shared::id::NodeId;
use tokio::sync::Notify;

/// The open links of this coordinator.
#[derive(Debug, Default)]
pub struct Nudger {
    links: Mutex<HashMap<NodeId, Open>>,
}

#[derive(Debug)]
struct Open {
    notify: Arc<Notify>,
    /// The newest generation that this link was nudged for.
    told: i64,
}

/// An open link; closing it is dropping this.
#[derive(Debug)]
pub struct Link {
    nudger: Arc<Nudger>,
    node: NodeId,
    notify: Arc<Notify>,
}

impl Nudger {
    /// Opens a node's link; an older one of the same node is no longer nudged.
    #[must_use]
    pub fn open(self: &Arc<Self>, node: NodeId) -> Link {
        let notify = Arc::new(Notify::new());
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let open = Open {
            notify: Arc::clone(&notify),
            told: 0,
        };
        links.insert(node, open);
        Link {
            nudger: Arc::clone(self),
            node,
            notify,
        }
    }

    /// Asks a node to beat now; many nudges make one.
    pub fn nudge(&self, node: NodeId) {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = links.get(&node) {
            open.notify.notify_one();
        }
    }

    /// Asks a node to beat now, unless its link was nudged for this generation of its desired state (committed, so that the beat finds
    /// it) or for a later one.
    pub fn tell(&self, node: NodeId, generation: i64) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = links.get_mut(&node).filter(|open| open.told < generation) {
            open.told = generation;
            open.notify.notify_one();
        }
    }
}

impl Link {
    /// Waits for a nudge.
    pub async fn nudged(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut links = self
            .nudger
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if links
            .get(&self.node)
            .is_some_and(|current| Arc::ptr_eq(&current.notify, &self.notify))
        {
            links.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;

    use shared::id::Ids;

    use super::*;

    fn is_nudged(link: &Link) -> bool {
        let mut nudged = std::pin::pin!(link.nudged());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        nudged.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn a_generation_is_told_once_for_each_link() {
        let (nudger, node) = (Arc::new(Nudger::default()), Ids::System.mint());
        nudger.tell(node, 7);
        let link = nudger.open(node);
        assert!(!is_nudged(&link), "nobody listened");
        nudger.tell(node, 7);
        assert!(is_nudged(&link));
        nudger.tell(node, 7);
        nudger.tell(node, 6);
        assert!(!is_nudged(&link), "it knows");
        nudger.tell(node, 8);
        assert!(is_nudged(&link));
        nudger.nudge(node);
        assert!(is_nudged(&link), "asked for without a reason to check");

        let again = nudger.open(node);
        drop(link);
        nudger.tell(node, 8);
        assert!(is_nudged(&again), "the link of before may not have said it");
    }
}
