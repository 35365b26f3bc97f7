//! Lanes: how many requests are handled at once, and how much memory their bodies may take, apart for agents, payments
//! and the rest. Whoever floods one lane finds it full; the others don't notice.
//!
//! # Invariants
//! - A place is held while a handler works, not while a body arrives: a slow client holds memory for what it sent, no more.
//! - Nothing waits: a full lane answers 503 at once.

use std::sync::Arc;

use axum::http::Method;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::{
    config::LimitsConfig,
    error::{Error, Kind, Result},
    router::API_PREFIX,
};

/// Body memory is counted in pieces of so many bytes.
const PIECE_BYTES: usize = 4 * 1024;
const PIECES_PER_MIB: usize = 1024 * 1024 / PIECE_BYTES;

/// One lane.
#[derive(Debug)]
pub struct Lane {
    name: &'static str,
    places: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

/// All of them.
#[derive(Debug)]
pub struct Lanes {
    general: Lane,
    agents: Lane,
    payments: Lane,
}

impl Lanes {
    /// With the configured widths.
    #[must_use]
    pub fn new(config: &LimitsConfig) -> Self {
        let lane = |name, width: u32| Lane {
            name,
            places: Arc::new(Semaphore::new(to_usize(width))),
            memory: Arc::new(Semaphore::new(
                to_usize(config.body_memory_mib).saturating_mul(PIECES_PER_MIB),
            )),
        };
        Self {
            general: lane("general", config.requests_at_once),
            agents: lane("agents", config.agent_requests_at_once),
            payments: lane("payments", config.payment_requests_at_once),
        }
    }

    /// The lane of a request; `route` is the matched one, empty for none. Health is asked about outside of all lanes.
    #[must_use]
    pub fn of(&self, method: &Method, route: &str) -> Option<&Lane> {
        let Some(path) = route.strip_prefix(API_PREFIX) else {
            let is_probe = matches!(route, "/healthz" | "/readyz" | "/metrics");
            return (!is_probe).then_some(&self.general);
        };
        let pays = ["/payments", "/rentals", "/balance"];
        if matches!(path, "/nodes/{id}/heartbeat" | "/nodes/{id}/link") {
            Some(&self.agents)
        } else if !method.is_safe() && pays.iter().any(|start| path.starts_with(start)) {
            Some(&self.payments)
        } else {
            Some(&self.general)
        }
    }
}

impl Lane {
    /// A place while a handler works.
    ///
    /// # Errors
    /// 503 when all are taken.
    pub fn enter(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|error| self.full(&error, "requests"))
    }

    /// Memory for the first byte of a body.
    ///
    /// # Errors
    /// 503 when there is none.
    pub fn memory(&self) -> Result<BodyMemory> {
        let held = self.take(1)?;
        Ok(BodyMemory { held })
    }

    fn take(&self, pieces: u32) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.memory)
            .try_acquire_many_owned(pieces)
            .map_err(|error| self.full(&error, "bodies"))
    }

    fn full(&self, error: &TryAcquireError, what: &str) -> Error {
        metrics::counter!("http_lane_full_total", "lane" => self.name).increment(1);
        tracing::debug!(lane = self.name, %error, what, "lane is full");
        Error::new(
            Kind::Unavailable { retry_after_s: 1 },
            "busy",
            "too much is going on at this moment; try again",
        )
    }
}

/// Memory taken for one body; given back when it is dropped.
#[derive(Debug)]
pub struct BodyMemory {
    held: OwnedSemaphorePermit,
}

impl BodyMemory {
    /// Takes what a body of `bytes` needs, beyond what is held.
    ///
    /// # Errors
    /// 503 when there isn't as much.
    pub fn grow_to(&mut self, lane: &Lane, bytes: usize) -> Result<()> {
        let wanted = bytes.div_ceil(PIECE_BYTES).max(1);
        let missing = wanted.saturating_sub(self.held.num_permits());
        if missing > 0 {
            let more = lane.take(u32::try_from(missing).map_err(Error::internal)?)?;
            self.held.merge(more);
        }
        Ok(())
    }
}

fn to_usize(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Lanes {
        Lanes::new(&LimitsConfig {
            requests_at_once: 2,
            agent_requests_at_once: 1,
            payment_requests_at_once: 1,
            body_memory_mib: 2,
            ..LimitsConfig::default()
        })
    }

    #[test]
    fn a_full_lane_refuses_and_the_others_go_on() {
        let lanes = lanes();
        let of = |method: &Method, route: &str| lanes.of(method, route).expect("a lane");
        let login = of(&Method::POST, "/api/v1/auth/login");
        let held = [login.enter().expect("one"), login.enter().expect("two")];
        let refused = login.enter().expect_err("full");
        assert_eq!(refused.kind(), Kind::Unavailable { retry_after_s: 1 });
        assert!(of(&Method::GET, "").enter().is_err());
        assert!(of(&Method::GET, "/api/v1/rentals").enter().is_err());
        let _beat = of(&Method::POST, "/api/v1/nodes/{id}/heartbeat")
            .enter()
            .expect("agents");
        let _order = of(&Method::POST, "/api/v1/rentals")
            .enter()
            .expect("payments");
        assert!(lanes.of(&Method::GET, "/healthz").is_none());
        drop(held);
        assert!(login.enter().is_ok());
    }

    #[test]
    fn memory_is_taken_as_a_body_grows_and_given_back() {
        let lanes = lanes();
        let lane = lanes.of(&Method::POST, "").expect("a lane");
        let mut first = lane.memory().expect("room");
        first.grow_to(lane, 1024 * 1024).expect("half of it");
        let mut second = lane.memory().expect("room");
        second.grow_to(lane, 1024 * 1024).expect("the other half");
        assert!(lane.memory().is_err() && second.grow_to(lane, 1024 * 1024 + 1).is_err());
        drop(first);
        assert!(lane.memory().is_ok());
    }
}
