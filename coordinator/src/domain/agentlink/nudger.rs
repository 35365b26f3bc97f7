//! Nudges: "beat now" to agents whose link is open here. Lost nudges don't matter: the next beat brings everything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use shared::id::NodeId;
use tokio::sync::Notify;

/// The open links of this coordinator.
#[derive(Debug, Default)]
pub struct Nudger {
    links: Mutex<HashMap<NodeId, Arc<Notify>>>,
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
        links.insert(node, Arc::clone(&notify));
        Link {
            nudger: Arc::clone(self),
            node,
            notify,
        }
    }

    /// Asks a node to beat now; many nudges make one.
    pub fn nudge(&self, node: NodeId) {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = links.get(&node) {
            notify.notify_one();
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
            .is_some_and(|current| Arc::ptr_eq(current, &self.notify))
        {
            links.remove(&self.node);
        }
    }
}
