//! The proof by which coordinators know each other: `<unix seconds>.<nonce>.<mac>`, an HMAC of the secret that they share.
//!
//! # Invariants
//! - A proof is for one address, counts for [`VALID_FOR_S`] and once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ring::hmac;
use shared::clock::Clock;

use crate::{
    error::{Error, Result},
    keys::{TokenSecret, random_32},
};

const DOMAIN: &str = "ramarket-peer-v1";
/// How far the clocks of two coordinators may be apart, and a connection may take.
const VALID_FOR_S: i64 = 30;
/// More can't be used in so little time by those that know the secret.
const SEEN_MAX: usize = 10_000;

/// Makes and checks proofs.
#[derive(Debug)]
pub(super) struct Proofs {
    key: hmac::Key,
    clock: Arc<dyn Clock>,
    /// Nonces with when they were used, seconds.
    seen: Mutex<HashMap<String, i64>>,
}

impl Proofs {
    pub(super) fn new(clock: &Arc<dyn Clock>, secret: &TokenSecret) -> Self {
        Self {
            key: secret.key(DOMAIN),
            clock: Arc::clone(clock),
            seen: Mutex::default(),
        }
    }

    /// A proof for who is reached at `url`.
    pub(super) fn make(&self, url: &str) -> anyhow::Result<String> {
        let nonce = hex::encode(&random_32()?[..16]);
        let made_s = self.clock.now().as_secs();
        let mac = hmac::sign(&self.key, message(url, made_s, &nonce).as_bytes());
        Ok(format!("{made_s}.{nonce}.{}", hex::encode(mac)))
    }

    /// Checks a proof that came to who is reached at `url`.
    pub(super) fn check(&self, url: &str, proof: Option<&str>) -> Result<()> {
        let refused = || {
            Error::unauthenticated(
                "peer_proof",
                "only coordinators of this market connect here: is http.peer_url the same on both ends, is the clock right?",
            )
        };
        let mut parts = proof.ok_or_else(refused)?.split('.');
        let (Some(made), Some(nonce), Some(mac), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused());
        };
        let made_s: i64 = made.parse().map_err(|_| refused())?;
        let mac = hex::decode(mac).map_err(|_| refused())?;
        hmac::verify(&self.key, message(url, made_s, nonce).as_bytes(), &mac)
            .map_err(|_| refused())?;
        let now_s = self.clock.now().as_secs();
        if now_s.abs_diff(made_s) > VALID_FOR_S.unsigned_abs() {
            return Err(refused());
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, used_s| now_s.abs_diff(*used_s) <= 2 * VALID_FOR_S.unsigned_abs());
        if seen.len() >= SEEN_MAX || seen.insert(nonce.to_owned(), now_s).is_some() {
            return Err(refused());
        }
        Ok(())
    }
}

fn message(url: &str, made_s: i64, nonce: &str) -> String {
    format!("{url}\n{made_s}\n{nonce}")
}

#[cfg(test)]
mod tests {
    use shared::{clock::ManualClock, time::Timestamp};

    use super::*;

    const URL: &str = "https://one.example";

    #[test]
    fn a_proof_counts_once_here_and_now() {
        let manual = ManualClock::starting_at(Timestamp::from_secs(1_800_000_000));
        let clock: Arc<dyn Clock> = Arc::new(manual.clone());
        let proofs = Proofs::new(&clock, &TokenSecret::from_bytes([7; 32]));
        let proof = proofs.make(URL).expect("made");
        assert!(proofs.check("https://two.example", Some(&proof)).is_err());
        let other = Proofs::new(&clock, &TokenSecret::from_bytes([8; 32]));
        assert!(other.check(URL, Some(&proof)).is_err());
        for bad in [None, Some(""), Some("1.2"), Some("a.b.c"), Some("1.2.00.3")] {
            assert!(proofs.check(URL, bad).is_err(), "{bad:?}");
        }
        proofs.check(URL, Some(&proof)).expect("it holds");
        assert!(proofs.check(URL, Some(&proof)).is_err(), "used");
        let late = proofs.make(URL).expect("made");
        manual.advance_ms(31_000);
        assert!(proofs.check(URL, Some(&late)).is_err(), "late");
    }
}
