//! What a rental runs, as it is kept: the image in clear, command, variables and credentials of a registry sealed, since they hold
//! passwords.
//!
//! # Invariants
//! - What is sealed opens only for the lease that it was sealed for.
//! - It is kept as long as a node may have to start it, and goes with the rental's end.

use serde::{Deserialize, Serialize};
use shared::{
    container::{ContainerSpec, RawSpec},
    id::LeaseId,
    image::{ImageRef, RegistryAuth},
};

use crate::{
    error::{Error, Result},
    keys::Sealer,
};

/// The purpose of the key that seals specifications.
pub const PURPOSE: &str = "rental specifications";

/// What is sealed.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Whole {
    /// With the credentials of a private image.
    Private {
        spec: ContainerSpec,
        registry_auth: RegistryAuth,
    },
    /// Without.
    Public(ContainerSpec),
}

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
    pub fn seal(
        sealer: &Sealer,
        lease: LeaseId,
        spec: &ContainerSpec,
        auth: Option<&RegistryAuth>,
    ) -> Result<Self> {
        let whole = match auth {
            Some(auth) => Whole::Private {
                spec: spec.clone(),
                registry_auth: auth.clone(),
            },
            None => Whole::Public(spec.clone()),
        };
        let whole = serde_json::to_vec(&whole).map_err(Error::internal)?;
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

    /// The whole specification of a rental that hasn't ended, and what its image is fetched with, if it is private.
    ///
    /// # Errors
    /// Internal: it was sealed by another key, or for another lease.
    pub fn open(
        &self,
        sealer: &Sealer,
        lease: LeaseId,
    ) -> Result<(ContainerSpec, Option<RegistryAuth>)> {
        let Some(sealed) = &self.sealed else {
            return Ok((self.shown.clone(), None));
        };
        let whole = sealer.open(&lease.to_string(), sealed);
        let whole = serde_json::from_slice(&whole.map_err(Error::internal)?);
        // not the parser's own words: they may quote what is sealed
        Ok(
            match whole.map_err(|_| Error::internal("a sealed specification isn't understood"))? {
                Whole::Private {
                    spec,
                    registry_auth,
                } => (spec, Some(registry_auth)),
                Whole::Public(spec) => (spec, None),
            },
        )
    }

    /// The image that it names.
    #[must_use]
    pub const fn image_ref(&self) -> &ImageRef {
        self.shown.image_ref()
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
        let auth = RegistryAuth::new("ada".to_owned(), "hush too".to_owned()).expect("fine");
        let public = KeptSpec::seal(&sealer, lease, &spec, None).expect("sealed");
        assert_eq!(
            public.open(&sealer, lease).expect("its own"),
            (spec.clone(), None)
        );
        let kept = KeptSpec::seal(&sealer, lease, &spec, Some(&auth)).expect("sealed");
        assert_eq!(
            kept.open(&sealer, lease).expect("its own"),
            (spec, Some(auth))
        );
        assert!(kept.open(&sealer, other).is_err());
        let shown = serde_json::to_string(&kept.shown).expect("JSON");
        assert!(shown.contains("busybox") && !shown.contains("hush"));
        let sealed = kept.sealed.expect("bytes");
        assert!(!sealed.windows(4).any(|part| part == b"hush"));
    }
}
