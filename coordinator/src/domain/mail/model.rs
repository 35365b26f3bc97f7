//! A mail as a value: to whom, what, for how long it is of use, and when it is tried again.

use shared::{id::MailId, secret::Secret, time::Timestamp};

use crate::error::{Error, Result};

const EMAIL_BYTES_MAX: usize = 254;
const LOCAL_BYTES_MAX: usize = 64;
/// So often a mail is tried; with [`retry_after_ms`] that takes some twelve hours.
pub const ATTEMPTS_MAX: i64 = 12;
const RETRY_FIRST_MS: i64 = 30_000;
const RETRY_MAX_MS: i64 = 4 * 3_600_000;

/// An e-mail address, normalised: trimmed and in lower case. It names an account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Checks the form; whether mail arrives there is another question.
    ///
    /// # Errors
    /// 422 at `/email`.
    pub fn parse(text: &str) -> Result<Self> {
        let email = text.trim().to_lowercase();
        let usable = email.split_once('@').is_some_and(|(local, domain)| {
            let plain = |part: &str| {
                !part.is_empty()
                    && !part.chars().any(|c| {
                        c.is_whitespace() || c.is_control() || "@<>\",;:\\()[]".contains(c)
                    })
            };
            let labels = domain
                .split('.')
                .all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'));
            plain(local) && plain(domain) && labels && local.len() <= LOCAL_BYTES_MAX
        });
        if usable && email.len() <= EMAIL_BYTES_MAX {
            Ok(Self(email))
        } else {
            Err(Error::invalid(
                "/email",
                "this isn't an e-mail address such as ada@example.org",
            ))
        }
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Plain text to somebody. It may hold a one-time link: it is never printed.
#[derive(Debug, Clone)]
pub struct Mail {
    /// To whom.
    pub to: Email,
    /// One line, known to us: no secret.
    pub subject: &'static str,
    /// The text; plain ASCII in lines below 900 characters arrives as it is.
    pub text: Secret<String>,
    /// After this nobody needs it any more.
    pub expires: Option<Timestamp>,
}

impl Mail {
    /// A mail that is always of use.
    #[must_use]
    pub fn new(to: Email, subject: &'static str, text: impl Into<String>) -> Self {
        Self {
            to,
            subject,
            text: Secret::new(text.into()),
            expires: None,
        }
    }

    /// The same, of use until `expires`.
    #[must_use]
    pub const fn until(mut self, expires: Timestamp) -> Self {
        self.expires = Some(expires);
        self
    }
}

/// A mail that was taken from the outbox, still sealed.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Which.
    pub id: MailId,
    /// To whom.
    pub to: Email,
    /// Its subject.
    pub subject: String,
    /// Its text, sealed under its id.
    pub sealed: Vec<u8>,
    /// When it was queued.
    pub created: Timestamp,
    /// After this nobody needs it any more.
    pub expires: Option<Timestamp>,
    /// Which attempt this is, from 1.
    pub attempt: i64,
}

/// How long after failed attempt number `attempt` the next one is; nothing: it is given up.
#[must_use]
pub fn retry_after_ms(attempt: i64) -> Option<i64> {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0);
    let after = RETRY_FIRST_MS.saturating_mul(2_i64.saturating_pow(doublings));
    (attempt < ATTEMPTS_MAX).then_some(after.min(RETRY_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised_and_nonsense_is_refused() {
        let email = Email::parse("  Ada@Example.ORG ").expect("fine");
        assert_eq!(email.as_str(), "ada@example.org");
        for nonsense in [
            "", "ada", "@x", "a@", "a b@x.y", "a@@b", "a@b..c", "a\n@b.c", "a@-b.c",
        ] {
            assert!(Email::parse(nonsense).is_err(), "{nonsense:?}");
        }
        assert!(Email::parse(&format!("{}@x.y", "a".repeat(65))).is_err());
    }

    #[test]
    fn attempts_get_rarer_and_end() {
        assert_eq!(retry_after_ms(1), Some(30_000));
        assert_eq!(retry_after_ms(2), Some(60_000));
        assert_eq!(retry_after_ms(11), Some(RETRY_MAX_MS));
        assert_eq!(retry_after_ms(12), None);
        let all: i64 = (1..).map_while(retry_after_ms).sum();
        assert!((10..14).contains(&(all / 3_600_000)), "{all}");
    }
}
