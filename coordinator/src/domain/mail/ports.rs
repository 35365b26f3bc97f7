//! Who carries mail.

use async_trait::async_trait;
use shared::{id::MailId, secret::Secret, time::Timestamp};

use super::model::Email;

/// A mail on its way out.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The same at every attempt: by it a second copy is recognised.
    pub id: MailId,
    /// To whom.
    pub to: Email,
    /// One line.
    pub subject: String,
    /// The text.
    pub text: Secret<String>,
    /// Its date.
    pub written: Timestamp,
}

/// Why a letter wasn't taken; never holds the letter's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// Not now: the server is away or busy, or refuses us.
    #[error("{0}")]
    Later(String),
    /// Never: this recipient or this letter is refused.
    #[error("{0}")]
    Never(String),
}

/// Takes letters and answers for their delivery.
#[async_trait]
pub trait Mailer: Send + Sync + std::fmt::Debug {
    /// Hands a letter over; returns when it is in safe hands. The same letter may come again after a crash.
    ///
    /// # Errors
    /// [`MailError`], within a minute.
    async fn send(&self, letter: &Letter) -> Result<(), MailError>;
}
