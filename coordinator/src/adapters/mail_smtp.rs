//! Mail by SMTP, to the operator's relay. TLS by rustls; a connection per mail.

use std::time::Duration;

use async_trait::async_trait;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor, message::Mailbox, transport::smtp,
};

use super::letter;
use crate::domain::mail::ports::{Letter, MailError, Mailer};

/// For a whole conversation, and for each of its steps.
const SECONDS_MAX: u64 = 30;

/// Hands mail to a relay.
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl std::fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // the transport holds the relay's password
        write!(f, "SmtpMailer(from {})", self.from)
    }
}

impl SmtpMailer {
    /// To the relay at `url`: `smtps://user:password@host:465` or `smtp://user:password@host:587?tls=required`.
    ///
    /// # Errors
    /// The URL can't be understood.
    pub fn new(url: &str, from: Mailbox) -> anyhow::Result<Self> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            // the error may quote the URL, and with it the password
            .map_err(|_| anyhow::anyhow!("mail.smtp_url isn't an SMTP URL"))?;
        let limit = Duration::from_secs(SECONDS_MAX);
        Ok(Self {
            transport: builder.timeout(Some(limit)).build(),
            from,
        })
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, letter: &Letter) -> Result<(), MailError> {
        let message = letter::message(letter, &self.from)?;
        let limit = Duration::from_secs(SECONDS_MAX);
        match tokio::time::timeout(limit, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(classify(&error)),
            Err(_) => Err(MailError::Later("the mail server took too long".to_owned())),
        }
    }
}

/// Permanent is what the server says of this mail; that it doesn't let us in (53x) is ours to mend, and waits.
fn classify(error: &smtp::Error) -> MailError {
    let code = error.status().map(|code| code.to_string());
    let locked_out = code.as_deref().is_some_and(|code| code.starts_with("53"));
    let why = std::error::Error::source(error)
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
    if error.is_permanent() && !locked_out {
        MailError::Never(why)
    } else {
        MailError::Later(why)
    }
}
