//! Nonces of sign-in challenges: when they were made, and a mark by which we know them again.
//!
//! # Invariants
//! - Letters and digits only (EIP-4361 allows no others); nobody without our secret can make one.

use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use shared::time::Timestamp;

use crate::{
    error::{Error, Result},
    keys::TokenSecret,
};

const DOMAIN: &str = "ramarket-wallet-nonce-v1";
const TIME_BYTES: usize = 8;
const RANDOM_BYTES: usize = 12;
const MARK_BYTES: usize = 16;

/// Makes and recognises nonces.
#[derive(Debug, Clone)]
pub struct Nonces {
    key: hmac::Key,
}

impl Nonces {
    /// From the coordinator's secret.
    #[must_use]
    pub fn new(secret: &TokenSecret) -> Self {
        Self {
            key: secret.key(DOMAIN),
        }
    }

    /// A new one, 72 hexadecimal digits.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn mint(&self, now: Timestamp) -> Result<String> {
        let mut bytes = [0; TIME_BYTES + RANDOM_BYTES];
        bytes[..TIME_BYTES].copy_from_slice(&now.as_micros().to_be_bytes());
        SystemRandom::new()
            .fill(&mut bytes[TIME_BYTES..])
            .map_err(|_| Error::internal("the system gives no random bytes"))?;
        let mark = hmac::sign(&self.key, &bytes);
        let mark = &mark.as_ref()[..MARK_BYTES];
        Ok(format!("{}{}", hex::encode(bytes), hex::encode(mark)))
    }

    /// When `nonce` was made; nothing if it isn't ours.
    #[must_use]
    pub fn issued(&self, nonce: &str) -> Option<Timestamp> {
        let bytes = hex::decode(nonce).ok()?;
        // one text for each nonce, or a nonce could be used twice
        if bytes.len() != TIME_BYTES + RANDOM_BYTES + MARK_BYTES || nonce != hex::encode(&bytes) {
            return None;
        }
        let (head, mark) = bytes.split_at(TIME_BYTES + RANDOM_BYTES);
        let ours = hmac::sign(&self.key, head);
        // compared as digests, so that where they differ says nothing
        let digest = |bytes: &[u8]| hmac::sign(&self.key, bytes);
        if digest(&ours.as_ref()[..MARK_BYTES]).as_ref() != digest(mark).as_ref() {
            return None;
        }
        let (time, _) = head.split_first_chunk::<TIME_BYTES>()?;
        Some(Timestamp::from_micros(i64::from_be_bytes(*time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_known_and_no_others() {
        let nonces = Nonces::new(&TokenSecret::from_bytes([7; 32]));
        let now = Timestamp::from_secs(1_800_000_000);
        let nonce = nonces.mint(now).expect("random");
        assert!(nonce.len() == 72 && nonce.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(nonces.issued(&nonce), Some(now));
        assert_ne!(nonces.mint(now).expect("random"), nonce);
        let other = Nonces::new(&TokenSecret::from_bytes([8; 32]));
        assert_eq!(other.issued(&nonce), None);
        assert_eq!(nonces.issued(&nonce[..70]), None);
        assert_eq!(nonces.issued(&nonce.to_uppercase()), None);
        assert_eq!(nonces.issued("0123456789abcdef"), None);
        for at in [0, 15, 16, 39, 40, 71] {
            let mut changed = nonce.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).expect("text");
            assert_eq!(nonces.issued(&changed), None, "{at}");
        }
    }
}
