//! Sections `oidc.<name>`: who else may say who somebody is, by OpenID Connect.
//!
//! # Invariants
//! - An issuer is reached by https; plain http is for one on this machine.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, is_callable};

/// Providers by the name that their addresses here have.
pub type OidcConfig = BTreeMap<String, OidcProviderConfig>;

const PROVIDERS_MAX: usize = 16;
const NAME_CHARS_MAX: usize = 32;
const TEXT_CHARS_MAX: usize = 512;
const DISPLAY_CHARS_MAX: usize = 64;

/// One provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcProviderConfig {
    /// Its issuer URL, exactly as it writes it itself.
    pub issuer: String,
    /// The name under which it knows us.
    pub client_id: String,
    /// A file whose first line is the client secret; without it we are a public client.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// What people call it; without it the section's name.
    #[serde(default)]
    pub display_name: Option<String>,
}

impl OidcProviderConfig {
    /// Every key of a section; each is text.
    pub const KEYS: [&'static str; 4] =
        ["issuer", "client_id", "client_secret_file", "display_name"];
}

pub(super) fn validate(providers: &OidcConfig) -> Result<(), ConfigError> {
    if providers.len() > PROVIDERS_MAX {
        return Err(ConfigError::invalid(
            "oidc",
            format!("set at most {PROVIDERS_MAX} providers"),
        ));
    }
    for (name, provider) in providers {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(plain) {
            return Err(ConfigError::invalid(
                "oidc.<name>",
                format!(
                    "{name:?}: use 1 to {NAME_CHARS_MAX} lower-case letters, digits and dashes"
                ),
            ));
        }
        validate_one(provider)?;
    }
    Ok(())
}

fn validate_one(provider: &OidcProviderConfig) -> Result<(), ConfigError> {
    if !is_issuer(&provider.issuer) {
        return Err(ConfigError::invalid(
            "oidc.<name>.issuer",
            format!(
                "{:?}: write the provider's issuer URL, such as https://accounts.google.com, without query and fragment",
                provider.issuer
            ),
        ));
    }
    let shown = |text: &str, most: usize| {
        !text.trim().is_empty() && text.chars().count() <= most && !text.contains(char::is_control)
    };
    if !shown(&provider.client_id, TEXT_CHARS_MAX) {
        return Err(ConfigError::invalid(
            "oidc.<name>.client_id",
            "write the client id that the provider gave you",
        ));
    }
    let display = provider.display_name.as_deref();
    if display.is_some_and(|text| !shown(text, DISPLAY_CHARS_MAX)) {
        return Err(ConfigError::invalid(
            "oidc.<name>.display_name",
            format!("use 1 to {DISPLAY_CHARS_MAX} characters"),
        ));
    }
    Ok(())
}

fn is_issuer(issuer: &str) -> bool {
    is_callable(issuer)
        && issuer.len() <= TEXT_CHARS_MAX
        && !issuer.contains(' ')
        && !issuer.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, issuer: &str, client_id: &str) -> Result<(), ConfigError> {
        let provider = OidcProviderConfig {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            client_secret_file: None,
            display_name: None,
        };
        validate(&OidcConfig::from([(name.to_owned(), provider)]))
    }

    #[test]
    fn issuers_are_https_or_on_this_machine() {
        for good in [
            "https://accounts.google.com",
            "https://login.example/tenant/",
            "http://127.0.0.2:4000",
            "http://localhost:4000",
        ] {
            checked("a-1", good, "id").expect(good);
        }
        for bad in [
            "http://login.example",
            "https://a.b/?x",
            "https://a.b/#x",
            "https://u@a.b",
            "login.example",
            "ftp://a.b",
            "",
        ] {
            assert!(checked("a", bad, "id").is_err(), "{bad}");
        }
        for name in ["", "A", "a b", "a/b", &"a".repeat(33)] {
            assert!(checked(name, "https://a.b", "id").is_err(), "{name}");
        }
        assert!(checked("a", "https://a.b", " ").is_err());
    }
}
