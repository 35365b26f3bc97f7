//! Which images may run: lists of registries, repositories and digests, and sizes. Pure decisions, the same at the quote and on the node.
//!
//! # Invariants
//! - Patterns match whole names in their canonical form, so that no other way of writing a name passes by.
//! - A list that forbids wins over one that allows.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Digest, ImageError, ImageRef, Platform};

/// Characters of a pattern.
const PATTERN_CHARS_MAX: usize = 255;
/// Patterns of one list.
pub const PATTERNS_MAX: usize = 64;
/// Layers that engines take.
pub const LAYERS_MAX: i64 = 127;
/// Digests that an inventory tells of.
pub const CACHED_MAX: usize = 64;

/// A name with `*` for any characters: `ghcr.io`, `*.pkg.dev`, `docker.io/library/*`, `sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Pattern {
    /// Whether the whole of `text` is meant.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        // the earliest place of each part leaves most for those behind it
        for part in parts {
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pattern {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let fine = |b: u8| {
            b.is_ascii_lowercase()
                || b.is_ascii_digit()
                || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'*')
        };
        if text.is_empty() || text.len() > PATTERN_CHARS_MAX || !text.bytes().all(fine) {
            return Err(ImageError(
                "a pattern is 1 to 255 lower-case letters, digits and . _ - / : with * for any of them",
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Pattern {
    type Error = ImageError;

    fn try_from(text: String) -> Result<Self, ImageError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a pattern of a list of images can mean any: the whole name of a repository, or a digest.
///
/// # Errors
/// It is a short name, or a digest's beginning.
pub fn check_image_pattern(pattern: &Pattern) -> Result<(), ImageError> {
    let text = pattern.as_str();
    let meant = text.contains(['/', '*']) || text.parse::<Digest>().is_ok();
    meant.then_some(()).ok_or(ImageError(
        "write a repository's whole name, as docker.io/library/busybox or ghcr.io/owner/*, or a digest, as sha256: and 64 digits",
    ))
}

/// What was found out about an image before anything of it was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedImage {
    /// Of the manifest for the node's platform.
    pub digest: Digest,
    /// How many layers it has.
    pub layers: i64,
    /// What has to be fetched: all layers compressed, and its configuration.
    pub bytes: i64,
}

/// What a machine's owner lets run on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRules {
    /// Registries that are asked.
    pub registries: Vec<Pattern>,
    /// Repositories and digests that run here; all if there are none.
    pub allowed: Vec<Pattern>,
    /// Repositories and digests that don't.
    pub denied: Vec<Pattern>,
    /// Most layers.
    pub layers_max: i64,
    /// Most bytes to fetch.
    pub bytes_max: i64,
}

impl Default for ImageRules {
    /// The large public registries, images of up to 20 GiB.
    fn default() -> Self {
        let registries = [
            "docker.io",
            "ghcr.io",
            "quay.io",
            "nvcr.io",
            "gcr.io",
            "*.gcr.io",
            "*.pkg.dev",
            "public.ecr.aws",
            "*.dkr.ecr.*.amazonaws.com",
            "mcr.microsoft.com",
            "registry.gitlab.com",
        ];
        Self {
            registries: registries.map(|name| Pattern(name.to_owned())).to_vec(),
            allowed: Vec::new(),
            denied: Vec::new(),
            layers_max: LAYERS_MAX,
            bytes_max: 20 << 30,
        }
    }
}

/// Why an image doesn't run somewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Its registry isn't asked.
    #[error("images of the registry {0} aren't run there: use one of another registry")]
    Registry(String),
    /// It is on a list, or isn't on one.
    #[error("the image {0} isn't run there: use another image or another offer")]
    Image(String),
    /// It is too large.
    #[error("{what}: at most {most} are run there")]
    Size {
        /// What is too much.
        what: String,
        /// How much would do.
        most: i64,
    },
    /// It is for other machines.
    #[error("the image is made for {made}, and the node is {node}")]
    Platform {
        /// Its own.
        made: String,
        /// The node's.
        node: Platform,
    },
}

/// Whether one of a list means an image, by its name or its digest.
#[must_use]
pub fn lists(patterns: &[Pattern], image: &ImageRef, digest: Option<&Digest>) -> bool {
    let name = image.name();
    let digest = digest.or(image.digest()).map(Digest::as_str);
    patterns.iter().any(|pattern| {
        pattern.matches(&name) || digest.is_some_and(|digest| pattern.matches(digest))
    })
}

impl ImageRules {
    /// Whether an image may run, by its name and, as far as it is known, its digest.
    ///
    /// # Errors
    /// [`Broken::Registry`], [`Broken::Image`].
    pub fn admit(&self, image: &ImageRef, digest: Option<&Digest>) -> Result<(), Broken> {
        let registry = image.registry();
        if !self.registries.iter().any(|known| known.matches(registry)) {
            return Err(Broken::Registry(registry.to_owned()));
        }
        let refused = lists(&self.denied, image, digest);
        // by digest an image may be allowed that isn't known yet: decided when it is
        let undecided = digest.or(image.digest()).is_none()
            && self
                .allowed
                .iter()
                .any(|pattern| pattern.as_str().starts_with("sha256:"));
        let allowed = self.allowed.is_empty() || undecided || lists(&self.allowed, image, digest);
        if refused || !allowed {
            return Err(Broken::Image(image.to_string()));
        }
        Ok(())
    }

    /// Whether an image of this size may run.
    ///
    /// # Errors
    /// [`Broken::Size`].
    pub fn admit_size(&self, layers: i64, bytes: i64) -> Result<(), Broken> {
        let broken = |what: String, most| Err(Broken::Size { what, most });
        if layers > self.layers_max {
            return broken(format!("the image has {layers} layers"), self.layers_max);
        }
        if bytes > self.bytes_max {
            return broken(
                format!("the image has {bytes} bytes to fetch"),
                self.bytes_max,
            );
        }
        Ok(())
    }

    /// Whether lists and sizes are within bounds.
    ///
    /// # Errors
    /// Which isn't, and what would be right.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        for (name, list) in [
            ("image_registries", &self.registries),
            ("images_allowed", &self.allowed),
            ("images_denied", &self.denied),
        ] {
            if list.len() > PATTERNS_MAX {
                return Err((name, format!("list at most {PATTERNS_MAX}")));
            }
        }
        for (name, list) in [
            ("images_allowed", &self.allowed),
            ("images_denied", &self.denied),
        ] {
            if let Some(Err(error)) = list.iter().map(check_image_pattern).find(Result::is_err) {
                return Err((name, error.to_string()));
            }
        }
        if !(1..=LAYERS_MAX).contains(&self.layers_max) {
            return Err(("image_layers_max", format!("use 1 to {LAYERS_MAX}")));
        }
        if self.bytes_max < 1 {
            return Err(("image_bytes_max", "use 1 or more".to_owned()));
        }
        Ok(())
    }
}

/// What a node tells about images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeImages {
    /// Which images its processors run.
    pub platform: Platform,
    /// What its owner lets run.
    pub rules: ImageRules,
    /// Images that needn't be fetched, at most [`CACHED_MAX`], those used last first.
    pub cached: Vec<Digest>,
    /// How fast images came lately; `None` until one did.
    pub pull_bytes_per_s: Option<i64>,
}

impl NodeImages {
    /// How long an image takes until it can start: nothing if it is there, `None` if that can't be told.
    #[must_use]
    pub fn estimated_pull_ms(&self, image: &PinnedImage) -> Option<i64> {
        if self.cached.contains(&image.digest) {
            return Some(0);
        }
        let speed = self.pull_bytes_per_s.filter(|speed| *speed > 0)?;
        Some(image.bytes.max(0).saturating_mul(1_000) / speed)
    }
}
