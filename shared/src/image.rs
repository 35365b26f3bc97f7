//! Names of container images, as the distribution specification writes them, parsed into types that can't be wrong.
//!
//! # Invariants
//! - What [`ImageRef`] parses is one image of one registry: the names that Docker Hub lets people leave out are put in, so `busybox`,
//!   `docker.io/busybox` and `index.docker.io/library/busybox:latest` are equal.
//! - A name never stands for an image's id: engines look ids up by what has no registry, and [`ImageRef::canonical`] always has one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use auth::RegistryAuth;

/// The registry of names that name none.
pub const DOCKER_HUB: &str = "docker.io";
/// Other names of it.
const DOCKER_HUB_ALSO: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];
/// Characters of a whole reference.
pub const REFERENCE_CHARS_MAX: usize = 255;
/// Characters of a tag.
const TAG_CHARS_MAX: usize = 128;
/// Characters of a registry's name.
const HOST_CHARS_MAX: usize = 253;
/// The tag of names that name none.
const LATEST: &str = "latest";

/// Why a text isn't a reference, in words for whoever wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ImageError(pub &'static str);

/// What identifies an image's manifest for good: `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
        Self(format!("sha256:{}", hex::encode(hash)))
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.trim_start_matches("sha256:")
    }
}

impl FromStr for Digest {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let hex = text.strip_prefix("sha256:").ok_or(ImageError(
            "a digest is written sha256: and 64 lower-case hexadecimal digits",
        ))?;
        let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if hex.len() == 64 && hex.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ImageError(
                "a digest is written sha256: and 64 lower-case hexadecimal digits",
            ))
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = ImageError;

    fn try_from(text: String) -> Result<Self, ImageError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A reference: which image of which registry, by tag, by digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// `docker.io`, `ghcr.io`, `127.0.0.1:5000`: host and, where it was named, port; in lower case.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/busybox`, `owner/name`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Registry and repository: `docker.io/library/busybox`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag that counts: the one that was written, `latest` where neither tag nor digest was; none where a digest says it all.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match (&self.digest, &self.tag) {
            (Some(_), _) => None,
            (None, tag) => Some(tag.as_deref().unwrap_or(LATEST)),
        }
    }

    /// The digest, if it was written.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The whole name, nothing left out: `docker.io/library/busybox:latest`, `ghcr.io/owner/name@sha256:…`.
    #[must_use]
    pub fn canonical(&self) -> String {
        match (&self.digest, self.tag()) {
            (Some(digest), _) => format!("{}@{digest}", self.name()),
            (None, tag) => format!("{}:{}", self.name(), tag.unwrap_or(LATEST)),
        }
    }

    /// The same repository's image of this digest.
    #[must_use]
    pub fn at(&self, digest: &Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest.clone()),
            ..self.clone()
        }
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        if text.is_empty() || text.len() > REFERENCE_CHARS_MAX {
            return Err(ImageError("an image reference has 1 to 255 characters"));
        }
        let (rest, digest) = match text.split_once('@') {
            // a second @ is no character of a digest
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((first, path)) if is_host(first) => (Some(first), path),
            _ => (None, rest),
        };
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) => (path, Some(check_tag(tag)?.to_owned())),
            None => (path, None),
        };
        check_path(path)?;
        if host.is_none() && path == "sha256" && tag.as_ref().is_some_and(|tag| tag.len() == 64) {
            return Err(ImageError(
                "a digest belongs behind a name: name@sha256: and 64 digits",
            ));
        }
        let registry = host.map_or(Ok(DOCKER_HUB), check_host)?;
        let repository = if registry == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

/// Whether the part before the first slash names a registry: by a dot, a port, or as this machine. Upper case is no part of a path
/// either, so it is looked at as a name of a registry, and refused as one.
fn is_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':', '['])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// The registry that a host names.
fn check_host(text: &str) -> Result<&str, ImageError> {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if let Some(port) = port {
        let plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
        if !plain || port.parse::<u16>().is_err() {
            return Err(ImageError("a registry's port is a number from 1 to 65535"));
        }
    }
    let label = |label: &str| {
        let inner = label
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.len() > HOST_CHARS_MAX || !host.split('.').all(label) {
        return Err(ImageError(
            "a registry is a host's name or IPv4 address in lower case, with a port if it needs one",
        ));
    }
    let hub = DOCKER_HUB_ALSO.contains(&text);
    Ok(if hub { DOCKER_HUB } else { text })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` between slashes.
fn check_path(path: &str) -> Result<(), ImageError> {
    let fail = Err(ImageError(
        "an image's name is lower-case letters and digits, parted by . _ __ or -, as in name:tag or registry/owner/name:tag",
    ));
    let word = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    for part in path.split('/') {
        let bytes = part.as_bytes();
        let ends = bytes.first().zip(bytes.last());
        if !ends.is_some_and(|(first, last)| word(*first) && word(*last)) {
            return fail;
        }
        let separators = part.split(|c: char| u8::try_from(c).is_ok_and(word));
        let fine = |between: &str| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-')
        };
        if !separators.into_iter().all(fine) {
            return fail;
        }
    }
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if path.len() == 64 && path.bytes().all(digit) {
        return Err(ImageError(
            "64 hexadecimal digits are an image's id, not its name",
        ));
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<&str, ImageError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fine = tag.len() <= TAG_CHARS_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'));
    fine.then_some(tag).ok_or(ImageError(
        "a tag is at most 128 letters, digits and _ . -, and begins with none of the last two",
    ))
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

/// Which machines an image is made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// As images name it: `amd64`, `arm64`.
    pub architecture: String,
}

impl Platform {
    /// Of the machine that this program runs on.
    #[must_use]
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        Self {
            os: std::env::consts::OS.to_owned(),
            architecture: architecture.to_owned(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

mod auth;
pub mod rules;
#[cfg(test)]
mod tests;
