//! A facilitator that can do what the sandbox can't: hang, be unclear, refuse.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use shared::x402::network::Network;
use tokio::sync::Notify;

use crate::domain::payments::ports::{
    Facilitator, SettleOutcome, SettleRequest, Support, VerifyOutcome,
};

/// What it does at its next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// Never answers to `verify`.
    HangInVerify,
    /// Never answers to `settle`, and nothing moves.
    HangInSettle,
    /// Settles and never answers.
    HangAfterSettle,
    /// Settles once it is let go.
    Wait,
    /// Says nothing clear, and nothing moves.
    Unclear,
    /// Settles, and says nothing clear.
    UnclearAfterSettle,
    /// Refuses.
    Refuse,
}

/// The facilitator; what isn't planned goes to the one inside.
#[derive(Debug)]
pub struct Double {
    inner: Arc<dyn Facilitator>,
    plan: Mutex<VecDeque<Turn>>,
    /// Told when a hanging or waiting call has begun.
    pub begun: Notify,
    /// Lets a waiting call go on.
    pub go: Notify,
    /// Calls of `settle`.
    pub settles: AtomicUsize,
}

impl Double {
    /// In front of `inner`.
    #[must_use]
    pub fn new(inner: &Arc<dyn Facilitator>, plan: &[Turn]) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            plan: Mutex::new(plan.iter().cloned().collect()),
            begun: Notify::new(),
            go: Notify::new(),
            settles: AtomicUsize::new(0),
        })
    }

    /// Plans another turn.
    ///
    /// # Panics
    /// If a test panicked before.
    pub fn plan(&self, turn: Turn) {
        self.plan.lock().expect("no panic").push_back(turn);
    }

    fn next(&self, verify: bool) -> Option<Turn> {
        let mut plan = self.plan.lock().expect("no panic");
        let is_ours = plan
            .front()
            .is_some_and(|turn| (*turn == Turn::HangInVerify) == verify);
        is_ours.then(|| plan.pop_front()).flatten()
    }

    async fn hang(&self) -> ! {
        self.begun.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl Facilitator for Double {
    async fn verify(&self, request: &SettleRequest) -> VerifyOutcome {
        if self.next(true).is_some() {
            self.hang().await;
        }
        self.inner.verify(request).await
    }

    async fn settle(&self, request: &SettleRequest) -> SettleOutcome {
        self.settles.fetch_add(1, Ordering::SeqCst);
        let unclear = || SettleOutcome::Unknown {
            detail: "the test wants it".into(),
        };
        match self.next(false) {
            Some(Turn::HangInSettle) => self.hang().await,
            Some(Turn::HangAfterSettle) => {
                self.inner.settle(request).await;
                self.hang().await
            }
            Some(Turn::Wait) => {
                self.begun.notify_one();
                self.go.notified().await;
                self.inner.settle(request).await
            }
            Some(Turn::Unclear) => unclear(),
            Some(Turn::UnclearAfterSettle) => {
                self.inner.settle(request).await;
                unclear()
            }
            Some(Turn::Refuse) => SettleOutcome::Refused {
                reason: "insufficient_funds".into(),
            },
            Some(Turn::HangInVerify) | None => self.inner.settle(request).await,
        }
    }

    async fn supports(&self, network: &'static Network) -> Support {
        self.inner.supports(network).await
    }

    fn name(&self) -> &str {
        "double"
    }
}
