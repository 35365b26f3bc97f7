//! Images: what may be rented with, and which manifest a reference means at the moment of the quote.
//!
//! # Invariants
//! - A registry is asked before a transaction, never in one, for at most [`WITHIN`] and by at most [`AT_ONCE`] at a time.
//! - What is quoted is the manifest for the node's own platform, by its digest: a tag that moves changes nothing any more.
//! - Credentials are used for this and forgotten; no answer and no log line tells them.

pub mod model;
pub mod ports;

use std::{sync::Arc, time::Duration};

use shared::image::{
    Digest, ImageRef, Platform, RegistryAuth,
    rules::{Broken, ImageRules, PinnedImage},
};
use tokio::sync::Semaphore;

use self::{
    model::{Kept, Manifest, Unfit},
    ports::{Access, Document, Refusal, Registry},
};
use crate::{
    config::{ImagesConfig, Resolve},
    error::{Error, Kind, Result},
};

/// For all questions about one image.
const WITHIN: Duration = Duration::from_secs(12);
/// Images that are looked at at once.
const AT_ONCE: usize = 32;
/// When to try again what no registry answered.
const RETRY_AFTER_S: u64 = 15;

/// What images may be, and whom to ask about them.
#[derive(Debug)]
pub struct Images {
    registry: Arc<dyn Registry>,
    resolve: Resolve,
    rules: ImageRules,
    manifest_bytes_max: usize,
    places: Semaphore,
}

/// An image that somebody wants to run.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which.
    pub image: ImageRef,
    /// Whose credentials, if it is private.
    pub auth: Option<RegistryAuth>,
    /// For which machine; not asked for where its node doesn't say.
    pub platform: Option<Platform>,
}

impl Images {
    /// As the settings say.
    #[must_use]
    pub fn new(config: &ImagesConfig, registry: Arc<dyn Registry>) -> Self {
        Self {
            registry,
            resolve: config.resolve,
            rules: ImageRules {
                registries: config.registries.clone(),
                allowed: Vec::new(),
                denied: config.denied.clone(),
                layers_max: i64::from(config.layers_max),
                bytes_max: i64::from(config.size_mib_max) << 20,
            },
            manifest_bytes_max: usize::try_from(config.manifest_bytes_max).unwrap_or(usize::MAX),
            places: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether this market sells an image at all.
    ///
    /// # Errors
    /// 409 `registry_not_allowed`, `image_not_allowed`.
    pub fn admit(&self, image: &ImageRef, digest: Option<&Digest>) -> Result<()> {
        self.rules.admit(image, digest).map_err(|why| broken(&why))
    }

    /// Which manifest is run, and how large it is; `None` where its node shall find that out.
    ///
    /// # Errors
    /// 409 with the reason why it can't be run; 503 `registry_unavailable` where the settings say that nothing unknown is sold.
    pub async fn pin(&self, wanted: &Wanted) -> Result<Option<PinnedImage>> {
        self.admit(&wanted.image, None)?;
        let (Some(platform), false) = (&wanted.platform, self.resolve == Resolve::Never) else {
            return Ok(None);
        };
        let looked = async {
            let _place = self.places.acquire().await.map_err(Error::internal)?;
            self.look(wanted, platform).await
        };
        let found = match tokio::time::timeout(WITHIN, looked).await {
            Ok(found) => found,
            Err(_) => Err(unavailable(&wanted.image, "it takes too long")),
        };
        match found {
            Ok(pinned) => {
                self.admit(&wanted.image, Some(&pinned.digest))?;
                let PinnedImage { layers, bytes, .. } = pinned;
                self.rules
                    .admit_size(layers, bytes)
                    .map_err(|why| broken(&why))?;
                Ok(Some(pinned))
            }
            Err(error)
                if error.code() == "registry_unavailable"
                    && self.resolve == Resolve::IfReachable =>
            {
                tracing::debug!(
                    image.registry = wanted.image.registry(),
                    error = error.detail(),
                    "the node will ask the registry"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn look(&self, wanted: &Wanted, platform: &Platform) -> Result<PinnedImage> {
        let mut access = Access {
            auth: wanted.auth.clone(),
            header: None,
        };
        let image = &wanted.image;
        let first = self.manifest(image, &mut access).await?;
        let (digest, manifest) = match model::read(&first.bytes).map_err(unfit(image))? {
            Kept::Image(manifest) => {
                self.check_platform(image, &manifest, platform, &mut access)
                    .await?;
                (first.digest, manifest)
            }
            Kept::Index(entries) => {
                let chosen = model::choose(&entries, platform).map_err(unfit(image))?;
                let own = self.manifest(&image.at(&chosen), &mut access).await?;
                match model::read(&own.bytes).map_err(unfit(image))? {
                    Kept::Image(manifest) => (own.digest, manifest),
                    Kept::Index(_) => {
                        return Err(unfit(image)(Unfit::Odd("is an index of indexes")));
                    }
                }
            }
        };
        Ok(PinnedImage {
            digest,
            layers: manifest.layers,
            bytes: manifest.bytes,
        })
    }

    async fn manifest(&self, image: &ImageRef, access: &mut Access) -> Result<Document> {
        let found = self.registry.manifest(image, access).await;
        let document = found.map_err(|refusal| refused(image, access, &refusal))?;
        if document.bytes.len() > self.manifest_bytes_max {
            let most = self.manifest_bytes_max;
            return Err(Error::conflict(
                "image_too_large",
                format!("the manifest of {image} has more than {most} bytes"),
            ));
        }
        Ok(document)
    }

    /// What isn't in an index tells its platform in its configuration alone.
    async fn check_platform(
        &self,
        image: &ImageRef,
        manifest: &Manifest,
        platform: &Platform,
        access: &mut Access,
    ) -> Result<()> {
        let found = self.registry.blob(image, &manifest.config, access).await;
        let config = found.map_err(|refusal| refused(image, access, &refusal))?;
        model::check_config(&config.bytes, platform).map_err(unfit(image))
    }
}

/// Why an image isn't run somewhere, as callers hear it.
#[must_use]
pub fn broken(broken: &Broken) -> Error {
    let told = broken.to_string();
    match broken {
        Broken::Registry(_) => Error::conflict("registry_not_allowed", told),
        Broken::Image(_) => Error::conflict("image_not_allowed", told),
        Broken::Size { .. } => Error::conflict("image_too_large", told),
        Broken::Platform { .. } => Error::conflict("image_not_for_platform", told),
    }
}

fn unfit(image: &ImageRef) -> impl Fn(Unfit) -> Error + '_ {
    move |unfit| match unfit {
        Unfit::Odd(_) => Error::conflict("image_not_supported", format!("{image}: {unfit}")),
        Unfit::Platform(_) => Error::conflict(
            "image_not_for_platform",
            format!("{image}: {unfit}; choose another image, or a node of that platform"),
        ),
    }
}

fn unavailable(image: &ImageRef, why: &str) -> Error {
    Error::new(
        Kind::Unavailable {
            retry_after_s: RETRY_AFTER_S,
        },
        "registry_unavailable",
        format!(
            "the registry {} can't be asked for the image now: {why}",
            image.registry()
        ),
    )
}

fn refused(image: &ImageRef, access: &Access, refusal: &Refusal) -> Error {
    match refusal {
        Refusal::Unauthorized if access.auth.is_some() => Error::conflict(
            "registry_auth_refused",
            format!("{image}: {refusal}; check registry_auth, and that it may pull this image"),
        ),
        Refusal::NotFound | Refusal::Unauthorized => Error::conflict(
            "image_not_found",
            format!("{image}: {refusal}; check its name, or give registry_auth if it is private"),
        ),
        Refusal::Odd(_) => Error::conflict("image_not_supported", format!("{image}: {refusal}")),
        Refusal::NotCallable(_) => {
            Error::conflict("registry_not_allowed", format!("{image}: {refusal}"))
        }
        Refusal::Unavailable(why) => unavailable(image, why),
    }
}

#[cfg(test)]
mod tests;
