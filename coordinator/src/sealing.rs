//! What the database keeps but mustn't show: sealed with AES-256-GCM under a key of one purpose.
//!
//! # Invariants
//! - A sealed value opens only with the key of its purpose and beside the name it was sealed with (the id of its row): moved to
//!   another row it doesn't open.
//! - Each value has its own random nonce, in front of it.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};

use crate::error::{Error, Result};

/// Seals and opens the values of one purpose.
pub struct Sealing(LessSafeKey);

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealing([redacted])")
    }
}

impl Sealing {
    /// With 32 secret bytes that are used for nothing else.
    ///
    /// # Errors
    /// Never with 32 bytes.
    pub fn new(key: &[u8]) -> anyhow::Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key)
            .map_err(|_| anyhow::anyhow!("a sealing key has 32 bytes"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals `value`, kept under `name`.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal(&self, name: &str, value: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Error::internal("the system has no random numbers"))?;
        let mut sealed = nonce.to_vec();
        let mut body = value.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(name.as_bytes()), &mut body)
            .map_err(|_| Error::internal("a value can't be sealed"))?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Opens what was sealed under `name`.
    ///
    /// # Errors
    /// 500: the row was changed, or our key was replaced.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let refuse = || Error::internal(format!("the sealed value of {name} doesn't open"));
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(refuse)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refuse())?;
        let mut body = body.to_vec();
        let opened = self
            .0
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut body)
            .map_err(|_| refuse())?;
        Ok(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_under_its_name_and_key() {
        let sealing = Sealing::new(&[7; 32]).expect("a key");
        let sealed = sealing.seal("mai_1", b"a secret").expect("sealed");
        assert_eq!(sealing.open("mai_1", &sealed).expect("opens"), b"a secret");
        assert!(!sealed.windows(8).any(|part| part == b"a secret"));
        assert_ne!(sealed, sealing.seal("mai_1", b"a secret").expect("sealed"));
        assert!(sealing.open("mai_2", &sealed).is_err());
        let other = Sealing::new(&[8; 32]).expect("a key");
        assert!(other.open("mai_1", &sealed).is_err());
        for cut in [0, NONCE_LEN, sealed.len() - 1] {
            assert!(sealing.open("mai_1", &sealed[..cut]).is_err(), "{cut}");
        }
        assert!(Sealing::new(&[7; 31]).is_err());
    }
}
