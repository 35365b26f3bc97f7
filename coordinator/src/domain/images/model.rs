//! Manifests, as registries write them: which one is for a node, and how much of it there is to fetch. Pure.
//!
//! # Invariants
//! - A document that could be read in two ways (an index and a manifest at once) is refused: the engine might read the other.
//! - Layers that come from elsewhere than the registry are refused: nobody could say what they are.

use serde::Deserialize;
use shared::image::{Digest, Platform, rules::LAYERS_MAX};

/// Entries of an index that are looked at.
const ENTRIES_MAX: usize = 256;
/// Most bytes that a blob is believed to have.
const BLOB_BYTES_MAX: i64 = 1 << 50;

/// Why a document is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It isn't by the specification.
    #[error("its manifest {0}")]
    Odd(&'static str),
    /// It is for other machines.
    #[error("it is made for {0}")]
    Platform(String),
}

/// What a registry keeps under a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// One image for each of several platforms.
    Index(Vec<(Platform, Digest)>),
    /// An image.
    Image(Manifest),
}

/// An image's manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Of its configuration.
    pub config: Digest,
    /// How many layers.
    pub layers: i64,
    /// Of all layers, compressed, and the configuration.
    pub bytes: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<i64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    size: i64,
    #[serde(default)]
    urls: Vec<String>,
    platform: Option<RawPlatform>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

impl From<RawPlatform> for Platform {
    fn from(raw: RawPlatform) -> Self {
        // they come into sentences
        let short = |text: String| text.chars().filter(|c| !c.is_control()).take(32).collect();
        Self {
            os: short(raw.os),
            architecture: short(raw.architecture),
        }
    }
}

/// Reads what a registry keeps under a reference.
///
/// # Errors
/// [`Unfit::Odd`].
pub fn read(bytes: &[u8]) -> Result<Kept, Unfit> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|_| Unfit::Odd("isn't understood"))?;
    if raw.schema_version != Some(2) {
        return Err(Unfit::Odd(
            "is of a version before 2: push the image again with a newer tool",
        ));
    }
    let named = raw.media_type.as_deref().unwrap_or_default();
    match (raw.manifests, raw.config, raw.layers) {
        (Some(entries), None, None)
            if !named.contains(".manifest.v1+") && !named.contains(".manifest.v2+") =>
        {
            if entries.len() > ENTRIES_MAX {
                return Err(Unfit::Odd("lists more than 256 platforms"));
            }
            let known = entries.into_iter().filter_map(|entry| {
                let platform = entry.platform?;
                Some((platform.into(), entry.digest))
            });
            Ok(Kept::Index(known.collect()))
        }
        (None, Some(config), Some(layers))
            if !named.contains(".index.") && !named.contains(".list.") =>
        {
            image(&config, &layers).map(Kept::Image)
        }
        _ => Err(Unfit::Odd(
            "is neither one of an image nor an index of some",
        )),
    }
}

fn image(config: &Descriptor, layers: &[Descriptor]) -> Result<Manifest, Unfit> {
    let count = i64::try_from(layers.len()).unwrap_or(i64::MAX);
    if count > LAYERS_MAX {
        return Err(Unfit::Odd("has more than 127 layers"));
    }
    let elsewhere = |layer: &Descriptor| {
        !layer.urls.is_empty()
            || layer.media_type.contains("foreign")
            || layer.media_type.contains("nondistributable")
    };
    if layers.iter().any(elsewhere) {
        return Err(Unfit::Odd("has layers from elsewhere than its registry"));
    }
    let mut bytes = 0_i64;
    for part in layers.iter().chain([config]) {
        if !(0..=BLOB_BYTES_MAX).contains(&part.size) {
            return Err(Unfit::Odd("tells sizes that can't be"));
        }
        bytes = bytes.saturating_add(part.size);
    }
    Ok(Manifest {
        config: config.digest.clone(),
        layers: count,
        bytes,
    })
}

/// The entry of an index that is for a platform.
///
/// # Errors
/// [`Unfit::Platform`] with those that there are.
pub fn choose(entries: &[(Platform, Digest)], wanted: &Platform) -> Result<Digest, Unfit> {
    if let Some((_, digest)) = entries.iter().find(|(platform, _)| platform == wanted) {
        return Ok(digest.clone());
    }
    // what build tools keep beside images is for "unknown"
    let made: Vec<String> = entries
        .iter()
        .filter(|(platform, _)| platform.os != "unknown")
        .map(|(platform, _)| platform.to_string())
        .take(8)
        .collect();
    Err(Unfit::Platform(if made.is_empty() {
        "no platform".to_owned()
    } else {
        made.join(", ")
    }))
}

/// Whether an image's configuration is for a platform.
///
/// # Errors
/// It isn't, or isn't understood.
pub fn check_config(bytes: &[u8], wanted: &Platform) -> Result<(), Unfit> {
    let raw: RawPlatform = serde_json::from_slice(bytes)
        .map_err(|_| Unfit::Odd("names a configuration that isn't understood"))?;
    let made = Platform::from(raw);
    if made == *wanted {
        Ok(())
    } else {
        Err(Unfit::Platform(made.to_string()))
    }
}

#[cfg(test)]
mod tests;
