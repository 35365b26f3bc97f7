//! What a private image is fetched with.
//!
//! # Invariants
//! - It shows nothing of itself but the user's name, unless it is serialised: that is done where it is sealed or sent, and nowhere else.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ImageError;
use crate::secret::Secret;

/// A user's name and password (or token) at a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAuth {
    username: String,
    password: Secret<String>,
}

/// [`RegistryAuth`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuth {
    username: String,
    password: String,
}

impl RegistryAuth {
    /// Characters of a name.
    const USERNAME_CHARS_MAX: usize = 256;
    /// Bytes of a password: tokens of cloud registries have some 3 KiB.
    const PASSWORD_BYTES_MAX: usize = 8 * 1024;

    /// Checks and wraps them.
    ///
    /// # Errors
    /// They are empty, too long, or have control characters (or, in the name, a colon).
    pub fn new(username: String, password: String) -> Result<Self, ImageError> {
        let odd = |text: &str| text.is_empty() || text.chars().any(char::is_control);
        if odd(&username)
            || username.contains(':')
            || username.chars().count() > Self::USERNAME_CHARS_MAX
        {
            return Err(ImageError(
                "a user name at a registry has 1 to 256 characters, no colon and no control characters",
            ));
        }
        if odd(&password) || password.len() > Self::PASSWORD_BYTES_MAX {
            return Err(ImageError(
                "a password at a registry has 1 to 8192 bytes and no control characters",
            ));
        }
        Ok(Self {
            username,
            password: Secret::new(password),
        })
    }

    /// Who.
    #[must_use]
    pub fn username(&self) -> &str {
        &self.username
    }

    /// What only they know.
    #[must_use]
    pub const fn password(&self) -> &Secret<String> {
        &self.password
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Serialize for RegistryAuth {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawAuth {
            username: self.username.clone(),
            password: self.password.expose().clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RegistryAuth {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = RawAuth::deserialize(deserializer)?;
        Self::new(raw.username, raw.password).map_err(serde::de::Error::custom)
    }
}
