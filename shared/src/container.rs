//! What a consumer wants to run: parsed into [`ContainerSpec`], which can't be out of bounds.
//!
//! # Invariants
//! - A [`ContainerSpec`] that exists is within [`limits`]: fields are private and deserialising validates.
//! - Commands and values of variables may hold passwords: `Debug` shows how many words and which names, never them.
//! - Unknown fields are refused. What no agent enforces yet (ports, …) is refused by the API before it gets here.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::image::{ImageError, ImageRef};

/// Bounds on a specification.
pub mod limits {
    /// Words of a command.
    pub const COMMAND_WORDS_MAX: usize = 64;
    /// Bytes of all words of a command together.
    pub const COMMAND_BYTES_MAX: usize = 16 * 1024;
    /// Environment variables.
    pub const ENV_VARS_MAX: usize = 64;
    /// Bytes of all environment variables together.
    pub const ENV_BYTES_MAX: usize = 32 * 1024;
    /// The least memory that Docker accepts, 6 MiB, rounded up to something that runs.
    pub const RAM_BYTES_MIN: i64 = 16 << 20;
    /// The least CPU share.
    pub const CPU_MILLIS_MIN: i64 = 10;
    /// The least disk space, if any: a file system needs some for itself.
    pub const DISK_BYTES_MIN: i64 = 64 << 20;
}

/// A checked container specification.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSpec", into = "RawSpec")]
pub struct ContainerSpec {
    image: String,
    parsed: ImageRef,
    command: Vec<String>,
    env: BTreeMap<String, String>,
}

/// A container specification as it comes from outside.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSpec {
    /// `busybox:latest`, `ghcr.io/owner/name@sha256:…`
    pub image: String,
    /// Replaces the image's command; empty keeps it.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

fn show(
    f: &mut fmt::Formatter<'_>,
    (name, image): (&str, &str),
    command: &[String],
    env: &BTreeMap<String, String>,
) -> fmt::Result {
    f.debug_struct(name)
        .field("image", &image)
        .field("command_words", &command.len())
        .field("env_names", &env.keys())
        .finish()
}

impl fmt::Debug for ContainerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, ("ContainerSpec", &self.image), &self.command, &self.env)
    }
}

impl fmt::Debug for RawSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, ("RawSpec", &self.image), &self.command, &self.env)
    }
}

/// What is wrong with a specification: the field as a JSON pointer and a sentence.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("{pointer}: {message}")]
pub struct SpecError {
    /// JSON pointer, `/image`.
    pub pointer: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl SpecError {
    fn new(pointer: &'static str, message: impl Into<String>) -> Self {
        Self {
            pointer,
            message: message.into(),
        }
    }
}

impl ContainerSpec {
    /// The image reference as the consumer wrote it.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image
    }

    /// The image that it names.
    #[must_use]
    pub const fn image_ref(&self) -> &ImageRef {
        &self.parsed
    }

    /// The command; empty means the image's own.
    #[must_use]
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// Environment variables, sorted by name.
    #[must_use]
    pub const fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// SHA-256 of the specification's canonical JSON, hex: what journal and label carry.
    #[must_use]
    pub fn sha256_hex(&self) -> String {
        // maps are sorted and the field order is fixed, so equal specifications have equal JSON
        let json = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(ring::digest::digest(&ring::digest::SHA256, &json))
    }
}

impl TryFrom<RawSpec> for ContainerSpec {
    type Error = SpecError;

    fn try_from(raw: RawSpec) -> Result<Self, SpecError> {
        let parsed = check_image(&raw.image)?;
        check_command(&raw.command)?;
        check_env(&raw.env)?;
        Ok(Self {
            parsed,
            image: raw.image,
            command: raw.command,
            env: raw.env,
        })
    }
}

impl From<ContainerSpec> for RawSpec {
    fn from(spec: ContainerSpec) -> Self {
        Self {
            image: spec.image,
            command: spec.command,
            env: spec.env,
        }
    }
}

/// Which image this names.
///
/// # Errors
/// It has no form of an image reference.
pub fn check_image(image: &str) -> Result<ImageRef, SpecError> {
    image
        .parse()
        .map_err(|error: ImageError| SpecError::new("/image", error.to_string()))
}

fn check_command(command: &[String]) -> Result<(), SpecError> {
    if command.len() > limits::COMMAND_WORDS_MAX {
        return Err(SpecError::new("/command", "a command has at most 64 words"));
    }
    if command.iter().map(String::len).sum::<usize>() > limits::COMMAND_BYTES_MAX {
        return Err(SpecError::new("/command", "a command has at most 16 KiB"));
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err(SpecError::new(
            "/command",
            "a command holds no NUL characters",
        ));
    }
    Ok(())
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), SpecError> {
    if env.len() > limits::ENV_VARS_MAX {
        return Err(SpecError::new("/env", "at most 64 environment variables"));
    }
    if env
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum::<usize>()
        > limits::ENV_BYTES_MAX
    {
        return Err(SpecError::new(
            "/env",
            "environment variables have at most 32 KiB together",
        ));
    }
    let name_ok = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if let Some(bad) = env.keys().find(|name| !name_ok(name)) {
        return Err(SpecError::new(
            "/env",
            format!("{bad:?} isn't a variable name: letters, digits and _"),
        ));
    }
    if env.values().any(|value| value.contains('\0')) {
        return Err(SpecError::new(
            "/env",
            "a variable's value holds no NUL characters",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(image: &str) -> Result<ContainerSpec, SpecError> {
        RawSpec {
            image: image.to_owned(),
            ..RawSpec::default()
        }
        .try_into()
    }

    #[test]
    fn image_references_are_checked() {
        let digest = "a".repeat(64);
        for good in [
            "busybox",
            "busybox:latest",
            "127.0.0.1:5000/a/b:1",
            &format!("x@sha256:{digest}"),
        ] {
            assert!(spec(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-x",
            "a b",
            "a//b",
            "a/../b",
            "a@sha256:1",
            "a;b",
            &"x".repeat(300),
        ] {
            assert_eq!(spec(bad).expect_err(bad).pointer, "/image");
        }
    }

    #[test]
    fn deserialising_validates() {
        let text = r#"{"image": "busybox", "env": {"1X": "y"}}"#;
        assert!(serde_json::from_str::<ContainerSpec>(text).is_err());
        let text = r#"{"image": "busybox", "command": ["sleep", "9"]}"#;
        let spec: ContainerSpec = serde_json::from_str(text).expect("valid");
        assert_eq!(spec.command(), ["sleep", "9"]);
    }

    #[test]
    fn debug_tells_no_values() {
        let raw = RawSpec {
            image: "busybox".to_owned(),
            command: vec!["--password=hush".to_owned()],
            env: BTreeMap::from([("PGPASSWORD".to_owned(), "hush".to_owned())]),
        };
        let spec = ContainerSpec::try_from(raw.clone()).expect("valid");
        for shown in [format!("{raw:?}"), format!("{spec:#?}")] {
            assert!(!shown.contains("hush") && shown.contains("PGPASSWORD"));
        }
    }

    #[test]
    fn the_hash_depends_on_every_field() {
        let base = spec("busybox").expect("valid").sha256_hex();
        assert_ne!(base, spec("busybox:1").expect("valid").sha256_hex());
        assert_eq!(base, spec("busybox").expect("valid").sha256_hex());
    }
}
