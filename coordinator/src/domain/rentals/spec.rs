//! What a rental runs, as it is kept: the image in clear, command and variables sealed, since they hold passwords.
//!
//! # Invariants
//! - What is sealed opens only for the lease that it was sealed for.
//! - It is kept as long as a node may have to start it, and goes with the rental's end.

use shared::{
    container::{ContainerSpec, RawSpec},
    id::LeaseId,
};

use crate::{
    error::{Error, Result},
    keys::Sealer,
};

/// The purpose of the key that seals specifications.
pub const PURPOSE: &str = "rental specifications";

/// A specification as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSpec {
    /// Without command and variables; whole in rows that are older than sealing.
    pub(super) shown: ContainerSpec,
    /// The whole, sealed; absent in older rows, and once the rental has ended.
    pub(super) sealed: Option<Vec<u8>>,
}

impl KeptSpec {
    /// Seals `spec` for a lease.
    ///
    /// # Errors
    /// Internal: the system has no random numbers.
    pub fn seal(sealer: &Sealer, lease: LeaseId, spec: &ContainerSpec) -> Result<Self> {
        let whole = serde_json::to_vec(spec).map_err(Error::internal)?;
        let shown = RawSpec {
            image: spec.image().to_owned(),
            ..RawSpec::default()
        };
        let sealed = sealer.seal(&lease.to_string(), &whole);
        Ok(Self {
            shown: shown.try_into()?,
            sealed: Some(sealed.map_err(Error::internal)?),
        })
    }

    /// The whole specification of a rental that hasn't ended.
    ///
    /// # Errors
    /// Internal: it was sealed by another key, or for another lease.
    pub fn open(&self, sealer: &Sealer, lease: LeaseId) -> Result<ContainerSpec> {
        let Some(sealed) = &self.sealed else {
            return Ok(self.shown.clone());
        };
        let whole = sealer.open(&lease.to_string(), sealed);
        serde_json::from_slice(&whole.map_err(Error::internal)?).map_err(Error::internal)
    }

    /// The image reference as the consumer wrote it.
    #[must_use]
    pub fn image(&self) -> &str {
        self.shown.image()
    }
}

#[cfg(test)]
mod tests {
    use shared::id::Ids;

    use super::*;
    use crate::keys::TokenSecret;

    #[test]
    fn only_its_lease_opens_it_and_only_the_image_shows() {
        let sealer = TokenSecret::from_bytes([7; 32]).sealer(PURPOSE);
        let ids = Ids::counting();
        let (lease, other) = (ids.mint(), ids.mint());
        let text = r#"{"image": "busybox", "command": ["--key=hush"], "env": {"A": "hush"}}"#;
        let spec: ContainerSpec = serde_json::from_str(text).expect("valid");
        let kept = KeptSpec::seal(&sealer, lease, &spec).expect("sealed");
        assert_eq!(kept.open(&sealer, lease).expect("its own"), spec);
        assert!(kept.open(&sealer, other).is_err());
        let shown = serde_json::to_string(&kept.shown).expect("JSON");
        assert!(shown.contains("busybox") && !shown.contains("hush"));
        let sealed = kept.sealed.expect("bytes");
        assert!(!sealed.windows(4).any(|part| part == b"hush"));
    }
}
