//! Which image a container was made from, as the registry knows it.
//!
//! # Invariants
//! - What was found stays found: an image's id never stands for another one.

use std::sync::PoisonError;

use super::{DIGESTS_MAX, DockerRuntime, digest, engine::is_status};
use crate::runtime::RuntimeError;

impl DockerRuntime {
    pub(super) async fn digest(
        &self,
        image_id: &str,
        reference: &str,
    ) -> Result<String, RuntimeError> {
        let key = (image_id.to_owned(), reference.to_owned());
        let known = self
            .digests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        if let Some(digest) = known {
            return Ok(digest);
        }
        // the reference may stand for another image by now, so the question goes by id
        let digest = self.image_digest(image_id, reference).await?;
        let digest = digest.unwrap_or_else(|| image_id.to_owned());
        self.remember(key, &digest);
        Ok(digest)
    }

    fn remember(&self, key: (String, String), digest: &str) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.len() >= DIGESTS_MAX {
            digests.clear();
        }
        digests.insert(key, digest.to_owned());
    }

    async fn image_digest(
        &self,
        image_id: &str,
        reference: &str,
    ) -> Result<Option<String>, RuntimeError> {
        let client = self.engine.client().await?;
        let call = async {
            match client.inspect_image(image_id).await {
                Err(error) if is_status(&error, 404) => Ok(None),
                other => other.map(Some),
            }
        };
        let image = self.engine.read(call).await?;
        Ok(image.map(|image| {
            let repo_digests = image.repo_digests.unwrap_or_default();
            digest::of_image(reference, image_id, &repo_digests)
        }))
    }
}
