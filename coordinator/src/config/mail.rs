//! Section `mail`: who carries mail to people.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, SecretText, is_loopback_host};

/// Mail to people.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailConfig {
    /// The sender of every mail.
    pub from: String,
    /// The relay: `smtps://user:password@host:465` or `smtp://user:password@host:587?tls=required`; without it mail goes into `folder`.
    pub smtp_url: Option<SecretText>,
    /// Where mail is written, a file each, while there is no relay; without it `data_dir/mail`.
    pub folder: Option<PathBuf>,
}

impl Default for MailConfig {
    fn default() -> Self {
        Self {
            from: "RAMarket <no-reply@localhost>".to_owned(),
            smtp_url: None,
            folder: None,
        }
    }
}

impl MailConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        const KEY: &str = "mail.smtp_url";
        if self.from.parse::<lettre::message::Mailbox>().is_err() {
            return Err(ConfigError::invalid(
                "mail.from",
                "write a name and an address, such as RAMarket <no-reply@market.example>",
            ));
        }
        let Some(url) = &self.smtp_url else {
            return Ok(());
        };
        let refuse = |why: &str| Err(ConfigError::invalid(KEY, why));
        let Ok(uri) = url.expose().parse::<http::Uri>() else {
            return refuse("write a URL such as smtps://user:password@mail.example:465");
        };
        let is_private = match uri.scheme_str() {
            Some("smtps") => true,
            Some("smtp") => uri.query() == Some("tls=required"),
            _ => return refuse("its scheme is smtps or smtp"),
        };
        if is_private || uri.host().is_some_and(is_loopback_host) {
            Ok(())
        } else {
            refuse(
                "only a relay on loopback is spoken to without TLS: use smtps://, or add ?tls=required",
            )
        }
    }
}
