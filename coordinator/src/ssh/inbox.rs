//! What a channel was sent and its rental didn't take yet.
//!
//! # Invariants
//! - What lies here is in its connection's account as long as it does.
//! - A closed channel holds nothing, and takes nothing any more.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use shared::link::open::Size;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::flow::Flow;

/// What an item costs besides its bytes.
const ITEM_BYTES: usize = 64;

/// What a client sent to a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Bytes.
    Data(Vec<u8>),
    /// No more of them.
    Eof,
    /// Its terminal has another size.
    Resize(Size),
    /// A signal, by its number.
    Signal(u8),
}

impl Item {
    const fn cost(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len() + ITEM_BYTES,
            _ => ITEM_BYTES,
        }
    }
}

/// What a channel was sent and wasn't taken yet.
#[derive(Debug)]
pub(super) struct Inbox {
    flow: Arc<Flow>,
    queue: Mutex<Queue>,
    changed: Notify,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    is_closed: bool,
}

impl Inbox {
    pub(super) fn new(flow: &Arc<Flow>) -> Arc<Self> {
        Arc::new(Self {
            flow: Arc::clone(flow),
            queue: Mutex::default(),
            changed: Notify::new(),
            closed: CancellationToken::new(),
        })
    }

    /// Keeps an item until it is taken; what comes after the channel's end is dropped.
    pub(super) fn put(&self, item: Item) {
        let mut queue = self.lock();
        if queue.is_closed {
            return;
        }
        self.flow.hold(item.cost());
        queue.items.push_back(item);
        drop(queue);
        self.changed.notify_one();
    }

    /// The next item; `None` once the channel is closed.
    pub(super) async fn next(&self) -> Option<Item> {
        loop {
            {
                let mut queue = self.lock();
                if queue.is_closed {
                    return None;
                }
                if let Some(item) = queue.items.pop_front() {
                    drop(queue);
                    self.flow.give_back(item.cost());
                    return Some(item);
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits until the channel is closed.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Ends it; what wasn't taken is dropped.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        queue.is_closed = true;
        let left = std::mem::take(&mut queue.items);
        drop(queue);
        self.flow.give_back(left.iter().map(Item::cost).sum());
        self.changed.notify_one();
        self.closed.cancel();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_after_a_channels_end_is_dropped() {
        let flow = Flow::new();
        let inbox = Inbox::new(&flow);
        inbox.put(Item::Eof);
        assert_eq!(inbox.next().await, Some(Item::Eof));
        inbox.close();
        inbox.put(Item::Data(vec![1]));
        assert_eq!(inbox.next().await, None);
        assert!(flow.holds_nothing());
    }
}
