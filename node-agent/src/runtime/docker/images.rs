//! Images: fetched by digest, within what the machine's owner allows.
//!
//! # Invariants
//! - Names, platform and, as far as they were quoted, sizes are checked before anything is fetched; layers and bytes again while they
//!   come, whatever was quoted.
//! - What was fetched gets a tag of ours before anybody is told that it is there: by it `image_cache` knows what it may remove.
//! - Credentials go into one header of two calls to the engine and nowhere else.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard::{
    auth::DockerCredentials,
    errors::Error,
    models::DistributionInspect,
    query_parameters::{CreateImageOptions, RemoveImageOptions, TagImageOptions},
};
use futures_util::StreamExt as _;
use shared::image::{
    Digest, ImageRef, Platform, RegistryAuth,
    rules::{Broken, CACHED_MAX, NodeImages},
};
use tokio::time::Instant;

use super::DockerRuntime;
use crate::runtime::{
    Fetch, OnProgress, RuntimeError,
    cache::{self, Settings},
    code,
    pull::{self, Layers},
};

/// A whole pull.
const PULL_SECONDS_MAX: u64 = 30 * 60;
/// The registry's answer to what a reference means.
const LOOK_SECONDS_MAX: u64 = 60;
/// At most this often is the disk looked at while an image comes.
const DISK_EVERY: Duration = Duration::from_secs(1);
/// Of the tags that say which images were fetched here.
const OWN_TAGS: &str = "ramarket.local/cache/";

/// What is decided and known about images.
#[derive(Debug, Default)]
pub(super) struct Images {
    pub(super) settings: Settings,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that are here, used last first.
    cached: Vec<Digest>,
    bytes_per_s: Option<i64>,
}

impl Images {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            known: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the inventory.
    pub(super) fn told(&self) -> NodeImages {
        let known = self.lock();
        NodeImages {
            platform: Platform::here(),
            rules: self.settings.rules.clone(),
            cached: known.cached.iter().take(CACHED_MAX).cloned().collect(),
            pull_bytes_per_s: known.bytes_per_s,
        }
    }

    /// What is here, used last first.
    pub(super) fn replace_cached(&self, cached: Vec<Digest>) {
        self.lock().cached = cached;
    }

    fn fetched(&self, digest: &Digest, bytes: i64, took: Duration) {
        let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let mut known = self.lock();
        known.bytes_per_s = cache::speed(known.bytes_per_s, bytes, took_ms);
        known.cached.retain(|other| other != digest);
        known.cached.insert(0, digest.clone());
    }
}

/// Repository of the tags of one node's images; nodes may share an engine.
pub(super) fn own_repository(scope: &str) -> String {
    let hash = Digest::of(scope.as_bytes());
    format!("{OWN_TAGS}{}", hash.hex().get(..16).unwrap_or_default())
}

fn broken(broken: &Broken) -> RuntimeError {
    let code = match broken {
        Broken::Registry(_) | Broken::Image(_) => code::IMAGE_NOT_ALLOWED,
        Broken::Size { .. } => code::IMAGE_TOO_LARGE,
        Broken::Platform { .. } => code::IMAGE_NOT_SUPPORTED,
    };
    RuntimeError::refused(code, broken)
}

/// What goes into `X-Registry-Auth`.
///
/// # Errors
/// The client writes it in another base64 than the engine reads, and the engine takes what it can't read for no credentials: those few
/// whose header would have one of the two letters that differ are refused in words.
fn credentials(
    image: &ImageRef,
    auth: Option<&RegistryAuth>,
) -> Result<Option<DockerCredentials>, RuntimeError> {
    let Some(auth) = auth else {
        return Ok(None);
    };
    let given = DockerCredentials {
        username: Some(auth.username().to_owned()),
        password: Some(auth.password().expose().clone()),
        serveraddress: Some(image.registry().to_owned()),
        ..DockerCredentials::default()
    };
    let header = serde_json::to_string(&given).map(|json| STANDARD.encode(json));
    if header.is_ok_and(|header| !header.contains(['+', '/'])) {
        return Ok(Some(given));
    }
    let why = "these credentials can't be handed to the engine: use a token of letters, digits and - . _ instead";
    Err(RuntimeError::refused(code::IMAGE_NOT_FOUND, why))
}

impl DockerRuntime {
    /// As [`crate::runtime::ContainerRuntime::pull`].
    pub(super) async fn fetch(
        &self,
        wanted: &Fetch,
        on_progress: OnProgress<'_>,
    ) -> Result<Digest, RuntimeError> {
        let image: ImageRef = wanted
            .reference
            .parse()
            .map_err(|error| RuntimeError::refused(code::IMAGE_NOT_FOUND, error))?;
        let rules = &self.images.settings.rules;
        let pinned = wanted.pinned.as_ref();
        rules
            .admit(&image, pinned.map(|pinned| &pinned.digest))
            .map_err(|why| broken(&why))?;
        if let Some(pinned) = pinned {
            let sized = rules.admit_size(pinned.layers, pinned.bytes);
            sized.map_err(|why| broken(&why))?;
        }
        let image = pinned.map_or_else(|| image.clone(), |pinned| image.at(&pinned.digest));
        let digest = self.meant(&image, wanted.auth.as_ref()).await?;
        rules
            .admit(&image, Some(&digest))
            .map_err(|why| broken(&why))?;
        self.make_room(pinned.map_or(0, |pinned| pinned.bytes))
            .await?;
        let exact = image.at(&digest);
        let begun = Instant::now();
        let bytes = self
            .bring(&exact, wanted.auth.as_ref(), on_progress)
            .await?;
        self.note_fetched(&exact, &digest).await?;
        self.images.fetched(&digest, bytes, begun.elapsed());
        Ok(digest)
    }

    /// Asks the registry, through the engine, what a reference means, and whether that is for this machine.
    async fn meant(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
    ) -> Result<Digest, RuntimeError> {
        let client = self.engine.client().await?;
        let name = image.canonical();
        let ask = client.inspect_registry_image(&name, credentials(image, auth)?);
        let asked = tokio::time::timeout(Duration::from_secs(LOOK_SECONDS_MAX), ask).await;
        let told: DistributionInspect = match asked {
            Ok(Ok(told)) => told,
            Ok(Err(Error::DockerResponseServerError { message, .. })) => {
                return Err(pull::refusal(&name, &message));
            }
            Ok(Err(error)) => return Err(self.engine.classify(error, code::IMAGE_PULL_FAILED)),
            Err(_) => {
                let why = format!("the registry didn't answer within {LOOK_SECONDS_MAX} s");
                return Err(pull::refusal(&name, &why));
            }
        };
        let here = Platform::here();
        let made = told.platforms.into_iter().map(|platform| Platform {
            os: platform.os.unwrap_or_default(),
            architecture: platform.architecture.unwrap_or_default(),
        });
        let made: Vec<Platform> = made.collect();
        // engines say nothing of some manifests' platforms: then it is looked at when the image is here
        if !made.is_empty() && !made.contains(&here) {
            let made: Vec<String> = made.iter().take(8).map(ToString::to_string).collect();
            return Err(broken(&Broken::Platform {
                made: made.join(", "),
                node: here,
            }));
        }
        let digest = told.descriptor.digest.unwrap_or_default();
        let digest: Digest = digest
            .parse()
            .map_err(|error| RuntimeError::refused(code::IMAGE_NOT_SUPPORTED, error))?;
        if image.digest().is_some_and(|asked| *asked != digest) {
            let why = "the registry names another image than the one that was asked for";
            return Err(RuntimeError::refused(code::IMAGE_NOT_FOUND, why));
        }
        Ok(digest)
    }

    /// Fetches exactly this; returns how many bytes came.
    async fn bring(
        &self,
        image: &ImageRef,
        auth: Option<&RegistryAuth>,
        on_progress: OnProgress<'_>,
    ) -> Result<i64, RuntimeError> {
        let client = self.engine.client().await?;
        let name = image.canonical();
        let options = CreateImageOptions {
            from_image: Some(image.name()),
            tag: image.digest().map(ToString::to_string),
            ..CreateImageOptions::default()
        };
        let lines = client.create_image(Some(options), None, credentials(image, auth)?);
        let follow = async {
            let mut lines = std::pin::pin!(lines);
            let mut layers = Layers::default();
            let mut look_at = Instant::now();
            while let Some(line) = lines.next().await {
                let line = line.map_err(|error| match error {
                    Error::DockerResponseServerError { message, .. }
                    | Error::DockerStreamError { error: message } => pull::refusal(&name, &message),
                    other => self.engine.classify(other, code::IMAGE_PULL_FAILED),
                })?;
                if let Some(message) = line.error_detail.as_ref().and_then(|d| d.message.as_ref()) {
                    return Err(pull::refusal(&name, message));
                }
                let progress = layers.take(&line);
                self.within_rules(&layers)?;
                if let Some(progress) = progress {
                    on_progress(progress);
                }
                if Instant::now() >= look_at {
                    look_at = Instant::now() + DISK_EVERY;
                    self.check_disk(0).await?;
                }
            }
            Ok(layers.sum().done_bytes)
        };
        tokio::time::timeout(Duration::from_secs(PULL_SECONDS_MAX), follow)
            .await
            .unwrap_or_else(|_| Err(pull::refusal(&name, "it took longer than 30 minutes")))
    }

    /// Whether what comes is no more than what is allowed, whatever was said before.
    fn within_rules(&self, layers: &Layers) -> Result<(), RuntimeError> {
        let rules = &self.images.settings.rules;
        let sized = rules.admit_size(layers.count(), layers.sum().total_bytes);
        sized.map_err(|why| broken(&why))
    }

    /// Removes what nobody uses until an image of this size leaves the floor free.
    async fn make_room(&self, bytes: i64) -> Result<(), RuntimeError> {
        if self.check_disk(bytes).await.is_ok() {
            return Ok(());
        }
        let floor = self.images.settings.free_floor_bytes;
        let free = self.free_bytes().await?.unwrap_or(i64::MAX);
        let lacking = floor.saturating_add(bytes).saturating_sub(free);
        self.free_images(lacking).await?;
        self.check_disk(bytes).await
    }

    async fn check_disk(&self, bytes: i64) -> Result<(), RuntimeError> {
        let floor = self.images.settings.free_floor_bytes;
        match self.free_bytes().await? {
            Some(free) if free < floor.saturating_add(bytes) => {
                let why = format!(
                    "{free} bytes are free on the node's disk, {floor} of them stay so: choose another node"
                );
                Err(RuntimeError::refused(code::IMAGE_PULL_FAILED, why))
            }
            _ => Ok(()),
        }
    }

    /// What is free where the engine keeps images; `None` where that can't be seen from here.
    pub(super) async fn free_bytes(&self) -> Result<Option<i64>, RuntimeError> {
        let ground = self.ground().await?;
        let Some(root) = ground.0.data_root.clone() else {
            return Ok(None);
        };
        let seen = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&root)).await;
        Ok(seen.ok().and_then(Result::ok).map(|seen| {
            let bytes = seen.f_bavail.saturating_mul(seen.f_frsize);
            i64::try_from(bytes).unwrap_or(i64::MAX)
        }))
    }

    /// The tag that says that an image was fetched here.
    pub(super) fn tag_of(&self, digest: &Digest) -> TagImageOptions {
        TagImageOptions {
            repo: Some(own_repository(&self.scope)),
            tag: Some(digest.hex().to_owned()),
        }
    }

    async fn note_fetched(&self, image: &ImageRef, digest: &Digest) -> Result<(), RuntimeError> {
        let client = self.engine.client().await?;
        let name = image.canonical();
        let held = self.engine.read(client.inspect_image(&name)).await?;
        let (made, here) = (
            Platform {
                os: held.os.unwrap_or_default(),
                architecture: held.architecture.unwrap_or_default(),
            },
            Platform::here(),
        );
        if made != here {
            let gone = client.remove_image(&name, None::<RemoveImageOptions>, None);
            gone.await
                .map_err(|error| self.engine.classify(error, code::IMAGE_PULL_FAILED))?;
            return Err(broken(&Broken::Platform {
                made: made.to_string(),
                node: here,
            }));
        }
        let tagged = client.tag_image(&name, Some(self.tag_of(digest)));
        tagged
            .await
            .map_err(|error| self.engine.classify(error, code::IMAGE_PULL_FAILED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_would_be_lost_on_the_way_are_refused() {
        let image: ImageRef = "h.io/x".parse().expect("a reference");
        let with = |password: &str| {
            let auth = RegistryAuth::new("ada".to_owned(), password.to_owned());
            credentials(&image, Some(&auth.expect("fine")))
        };
        let given = with("dckr_pat_A-b.c+d/e=").expect("fine").expect("some");
        assert_eq!(given.serveraddress.as_deref(), Some("h.io"));
        // one of three places in a row is an unlucky one
        let lost = ["~", "a~", "aa~"].map(|password| with(password).is_err());
        assert_eq!(lost.iter().filter(|lost| **lost).count(), 1);
        assert_eq!(credentials(&image, None), Ok(None));
    }

    #[test]
    fn tags_of_two_nodes_differ() {
        assert_ne!(own_repository("nod_1"), own_repository("nod_2"));
        assert_eq!(own_repository("nod_1").len(), OWN_TAGS.len() + 16);
    }
}
