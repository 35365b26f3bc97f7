//! Section `images`: which images are sold, and how their registries are asked.

use serde::{Deserialize, Serialize};
use shared::image::rules::{LAYERS_MAX, PATTERNS_MAX, Pattern, check_image_pattern};

use super::{ConfigError, is_loopback_host, within};

/// Registries on private addresses that may be listed.
const PRIVATE_MAX: usize = 16;
/// More than one answer is never read.
const MANIFEST_BYTES_MAX: u32 = 256 * 1024;

/// Whether registries are asked what a tag means, before a rental is sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolve {
    /// Yes, and what can't be asked for isn't sold.
    Always,
    /// Yes; where a registry doesn't answer, the node asks when it starts the rental.
    #[default]
    IfReachable,
    /// No: the node asks, such as where images are only on the nodes.
    Never,
}

/// Images.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImagesConfig {
    /// Whether registries are asked.
    pub resolve: Resolve,
    /// Registries whose images are sold; `*` stands for any characters.
    pub registries: Vec<Pattern>,
    /// Repositories and digests that are never sold.
    pub denied: Vec<Pattern>,
    /// Registries that may be asked although their addresses aren't public: `https://host:port`, or `http://` on this machine.
    pub private_registries: Vec<String>,
    /// Largest manifest, bytes.
    pub manifest_bytes_max: u32,
    /// Most layers of an image.
    pub layers_max: u32,
    /// Most bytes that a node would have to fetch for an image, MiB.
    pub size_mib_max: u32,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self {
            resolve: Resolve::default(),
            registries: "*".parse().into_iter().collect(),
            denied: Vec::new(),
            private_registries: Vec::new(),
            manifest_bytes_max: MANIFEST_BYTES_MAX,
            layers_max: 127,
            size_mib_max: 20 * 1024,
        }
    }
}

impl ImagesConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (key, list) in [
            ("images.registries", &self.registries),
            ("images.denied", &self.denied),
        ] {
            if list.len() > PATTERNS_MAX {
                return Err(ConfigError::invalid(
                    key,
                    format!("list at most {PATTERNS_MAX} patterns"),
                ));
            }
        }
        if let Some(Err(error)) = self
            .denied
            .iter()
            .map(check_image_pattern)
            .find(Result::is_err)
        {
            return Err(ConfigError::invalid("images.denied", error.to_string()));
        }
        let fine = |url: &String| registry_of(url).is_some();
        if self.private_registries.len() > PRIVATE_MAX || !self.private_registries.iter().all(fine)
        {
            return Err(ConfigError::invalid(
                "images.private_registries",
                "list at most 16 like https://registry.lan:5000, or http://127.0.0.1:5000 on this machine",
            ));
        }
        within(
            "images.manifest_bytes_max",
            self.manifest_bytes_max,
            1_024,
            MANIFEST_BYTES_MAX,
        )?;
        let layers_max = u32::try_from(LAYERS_MAX).unwrap_or(u32::MAX);
        within("images.layers_max", self.layers_max, 1, layers_max)?;
        within("images.size_mib_max", self.size_mib_max, 1, 1 << 20)
    }
}

/// Host and port of a private registry's URL, if it is one.
#[must_use]
pub fn registry_of(url: &str) -> Option<&str> {
    let (scheme, authority) = url.split_once("://")?;
    let whole: ::http::Uri = url.parse().ok()?;
    let bare = !authority.is_empty() && !authority.contains(['/', '?', '#', '@']);
    let callable = match scheme {
        "https" => true,
        "http" => is_loopback_host(whole.host()?),
        _ => false,
    };
    (bare && callable).then_some(authority)
}
