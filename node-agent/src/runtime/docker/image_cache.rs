//! The images that were fetched here: noted when they are used, removed when there is no room for them.
//!
//! # Invariants
//! - Only what was fetched here is ever removed: it has a tag of ours. An image that has another tag besides keeps its names.
//! - When an image was used last is the engine's own note of when it was tagged last: nothing to keep in step.

use std::collections::HashSet;

use bollard::query_parameters::{ListContainersOptions, ListImagesOptions, RemoveImageOptions};
use shared::{
    clock::{Clock as _, SystemClock},
    image::Digest,
    time::Timestamp,
};

use super::{DockerRuntime, engine::is_status, images::own_repository};
use crate::runtime::{
    RuntimeError,
    cache::{self, Cached},
    code,
};

impl DockerRuntime {
    /// Notes that a rental used an image until now, if it was fetched here.
    pub(super) async fn note_use(&self, image_id: &str) {
        let noted = async {
            let client = self.engine.client().await?;
            let held = self.engine.read(client.inspect_image(image_id)).await?;
            let own = format!("{}:", own_repository(&self.scope));
            let tags = held.repo_tags.unwrap_or_default();
            for hex in tags.iter().filter_map(|tag| tag.strip_prefix(&own)) {
                if let Ok(digest) = format!("sha256:{hex}").parse() {
                    let tagged = client.tag_image(image_id, Some(self.tag_of(&digest)));
                    self.engine.read(tagged).await?;
                }
            }
            Ok::<_, RuntimeError>(())
        };
        if let Err(error) = noted.await {
            // it only goes earlier than it should
            tracing::debug!(image.id = image_id, %error, "when an image was used can't be noted");
        }
    }

    /// Looks at the images that were fetched here, and removes those for which there is no room.
    ///
    /// # Errors
    /// The engine's. What can't be removed now is no error.
    pub async fn sweep_images(&self) -> Result<(), RuntimeError> {
        self.free_images(0).await
    }

    /// As [`Self::sweep_images`]; so many bytes more are to become free.
    pub(super) async fn free_images(&self, lacking_bytes: i64) -> Result<(), RuntimeError> {
        let mut cached = self.own_images().await?;
        let floor = self.images.settings.free_floor_bytes;
        let short = self
            .free_bytes()
            .await?
            .map_or(0, |free| floor.saturating_sub(free));
        let now = SystemClock.now();
        let lacking = lacking_bytes.max(short);
        for digest in cache::surplus(&cached, &self.images.settings, lacking, now) {
            match self.remove_image(&digest).await {
                Ok(()) => {
                    tracing::info!(image.digest = %digest, "an image that nobody used was removed");
                    cached.retain(|image| image.digest != digest);
                }
                Err(error) => {
                    tracing::debug!(image.digest = %digest, %error, "an image can't be removed now");
                }
            }
        }
        cached.sort_by_key(|image| std::cmp::Reverse(image.last_used));
        let kept = cached.into_iter().map(|image| image.digest);
        self.images.replace_cached(kept.collect());
        Ok(())
    }

    /// The images that were fetched here.
    pub(super) async fn own_images(&self) -> Result<Vec<Cached>, RuntimeError> {
        let client = self.engine.client().await?;
        let own = own_repository(&self.scope);
        let filters = [("reference".to_owned(), vec![own.clone()])];
        let options = ListImagesOptions {
            filters: Some(filters.into_iter().collect()),
            ..ListImagesOptions::default()
        };
        let images = self.engine.read(client.list_images(Some(options))).await?;
        let options = ListContainersOptions {
            all: true,
            ..ListContainersOptions::default()
        };
        let containers = self.engine.read(client.list_containers(Some(options)));
        let used: HashSet<String> = containers
            .await?
            .into_iter()
            .filter_map(|container| container.image_id)
            .collect();
        let mut found = Vec::new();
        for image in images {
            let prefix = format!("{own}:");
            let tags = image.repo_tags.iter();
            let hex = tags.filter_map(|tag| tag.strip_prefix(&prefix));
            let digests: Vec<Digest> = hex
                .filter_map(|hex| format!("sha256:{hex}").parse().ok())
                .collect();
            let held = match self.engine.read(client.inspect_image(&image.id)).await {
                Ok(held) => held,
                // removed meanwhile
                Err(RuntimeError::Refused { .. }) => continue,
                Err(error) => return Err(error),
            };
            let tagged = held.metadata.and_then(|metadata| metadata.last_tag_time);
            let last_used = tagged.and_then(|at| Timestamp::parse_rfc3339(&at.to_string()).ok());
            found.extend(digests.into_iter().map(|digest| Cached {
                digest,
                bytes: image.size,
                // unknown: as if just used
                last_used: last_used.unwrap_or_else(|| SystemClock.now()),
                in_use: used.contains(&image.id),
            }));
        }
        Ok(found)
    }

    /// Removes an image that was fetched here: our tag, and the names by that digest. Whatever else names it keeps it.
    pub(super) async fn remove_image(&self, digest: &Digest) -> Result<(), RuntimeError> {
        let client = self.engine.client().await?;
        let own = format!("{}:{}", own_repository(&self.scope), digest.hex());
        let held = match client.inspect_image(&own).await {
            Ok(held) => held,
            Err(error) if is_status(&error, 404) => return Ok(()),
            Err(error) => return Err(self.engine.classify(error, code::ENGINE_REFUSED)),
        };
        let by_digest = held.repo_digests.unwrap_or_default().into_iter();
        let by_digest = by_digest.filter(|name| name.ends_with(&format!("@{digest}")));
        let others = held.repo_tags.unwrap_or_default();
        let kept = others.iter().any(|tag| *tag != own);
        // ours last: as long as it is there, a removal that broke off is taken up again
        for name in by_digest.filter(|_| !kept).chain([own.clone()]) {
            let options = RemoveImageOptions {
                force: false,
                noprune: false,
                ..RemoveImageOptions::default()
            };
            match client.remove_image(&name, Some(options), None).await {
                Ok(_) => {}
                Err(error) if is_status(&error, 404) => {}
                Err(error) => return Err(self.engine.classify(error, code::ENGINE_REFUSED)),
            }
        }
        Ok(())
    }
}
