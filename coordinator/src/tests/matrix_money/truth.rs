//! A small chain: which authorization was used, how and when. It is the truth that the books are held against.
//!
//! # Invariants
//! - An authorization is used once, and never after its end, whoever tries and however often.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use shared::{
    clock::{Clock as _, ManualClock},
    x402::payment::PresentedPayment,
};

use super::chance::Chance;
use crate::domain::payments::ports::{Chain, OnChain, SettleRequest};

/// How an authorization was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The whole amount moved.
    Paid,
    /// Less moved.
    PaidLess,
    /// The payer cancelled it.
    Cancelled,
}

/// An authorization as it is submitted.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) nonce: String,
    /// Lower case.
    pub(super) to: String,
    pub(super) amount: i64,
    pub(super) valid_before_s: i64,
}

/// What reached an address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) times: u32,
    pub(super) amount: i64,
}

#[derive(Debug, Default)]
struct Authorization {
    /// How, and from when on the chain shows it, seconds.
    used: Option<(Use, i64)>,
    /// Transfers that went through.
    moves: u32,
}

/// The chain.
#[derive(Debug)]
pub(super) struct Truth {
    clock: ManualClock,
    nonces: Mutex<BTreeMap<String, Authorization>>,
    /// By address, mined or not.
    arrived: Mutex<BTreeMap<String, Arrived>>,
    chance: Mutex<Chance>,
    /// So much later whoever looks at it sees what happened, seconds.
    lag_s: i64,
}

impl Truth {
    pub(super) fn new(clock: ManualClock, seed: u64) -> Arc<Self> {
        let mut chance = Chance::of(seed);
        let lag_s = i64::try_from(chance.below(30)).unwrap_or(0);
        Arc::new(Self {
            clock,
            nonces: Mutex::default(),
            arrived: Mutex::default(),
            chance: Mutex::new(chance),
            lag_s,
        })
    }

    fn nonces(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Authorization>> {
        self.nonces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits an authorization, to be mined in `after_s` seconds. False if its nonce is used already or it will be over.
    pub(super) fn submit(&self, signed: &Signed, how: Use, after_s: i64) -> bool {
        let at = self.clock.now().as_secs() + after_s;
        let mut nonces = self.nonces();
        let known = nonces.entry(signed.nonce.clone()).or_default();
        if known.used.is_some() || at >= signed.valid_before_s {
            return false;
        }
        known.used = Some((how, at));
        if how != Use::Cancelled {
            known.moves += 1;
            let mut all = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            let arrived = all.entry(signed.to.clone()).or_default();
            arrived.times += 1;
            arrived.amount += signed.amount - i64::from(how == Use::PaidLess);
        }
        true
    }

    /// What reached an address, of whatever was ever signed.
    pub(super) fn arrived(&self, to: &str) -> Arrived {
        let all = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(to).copied().unwrap_or_default()
    }

    /// How an authorization is used by now; nothing while it isn't mined.
    pub(super) fn used(&self, nonce: &str) -> Option<Use> {
        let now = self.clock.now().as_secs();
        let nonces = self.nonces();
        let (how, at) = nonces.get(nonce)?.used?;
        (at <= now).then_some(how)
    }

    /// Whether it is submitted and not mined yet.
    pub(super) fn is_waiting(&self, nonce: &str) -> bool {
        let now = self.clock.now().as_secs();
        let nonces = self.nonces();
        let used = nonces.get(nonce).and_then(|it| it.used);
        used.is_some_and(|(_, at)| at > now)
    }

    /// How often money moved by it.
    pub(super) fn moves(&self, nonce: &str) -> u32 {
        self.nonces().get(nonce).map_or(0, |it| it.moves)
    }
}

/// The transaction that used a nonce.
pub(super) fn transaction_of(nonce: &str) -> String {
    format!("0x{:0>64}", nonce.trim_start_matches("0x"))
}

#[async_trait]
impl Chain for Truth {
    async fn look(&self, request: &SettleRequest) -> OnChain {
        let presented = PresentedPayment::from_json(request.payload.clone()).expect("our own");
        let nonce = format!("0x{}", hex::encode(presented.authorization.nonce));
        let valid_before = i64::try_from(presented.authorization.valid_before).unwrap_or(i64::MAX);
        let is_silent = {
            let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
            chance.below(8) == 0
        };
        if is_silent {
            return OnChain::Unknown {
                detail: "the node is syncing".to_owned(),
            };
        }
        let deep_s = self.clock.now().as_secs() - self.lag_s;
        let used = self.nonces().get(&nonce).and_then(|it| it.used);
        match used.filter(|(_, at)| *at <= deep_s) {
            Some((how, _)) => OnChain::Used {
                transaction: transaction_of(&nonce),
                log_index: Some(0),
                paid: how == Use::Paid,
            },
            None => OnChain::Unused {
                expired: deep_s >= valid_before,
            },
        }
    }
}
