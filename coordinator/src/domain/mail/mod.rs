//! Mail to people: queued with the change that it tells of, sent by a task, given up visibly.
//!
//! # Invariants
//! - A mail is queued exactly when the change that it tells of was committed: it is written in the same transaction.
//! - It is sent at least once, or given up after [`model::ATTEMPTS_MAX`] attempts or when nobody needs it any more. A crash
//!   between sending and noting it sends it twice, with the same message id.
//! - Its text may hold a one-time link: it lies sealed in the database, and is gone when the mail is done with.

pub mod model;
pub mod ports;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use shared::{clock::Clock, id::MailId, secret::Secret};

pub use self::{model::Email, model::Mail};
use self::{
    model::{Taken, retry_after_ms},
    ports::{Letter, MailError, Mailer},
};
use crate::{
    context::OpCtx,
    error::{Error, Result},
    keys::Sealer,
    store::{Db, Tx},
};

/// Whoever took a mail has so long to send it, before another may.
const TAKEN_MS: i64 = 120_000;
/// Most mails of one turn of the task.
const BATCH: i64 = 50;
/// Mails that are done with are kept for so long.
const KEPT_MS: i64 = 30 * 86_400_000;
/// Of a carrier's answer so much is kept.
const ERROR_CHARS_MAX: usize = 500;

/// Where mail goes out.
#[derive(Debug)]
pub struct Postbox {
    /// The outbox is there.
    pub db: Db,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Who carries it.
    pub mailer: Arc<dyn Mailer>,
    /// Where links lead: our public URL.
    pub public_url: String,
    /// Keeps texts secret while they wait.
    pub sealer: Sealer,
}

/// What came of a turn of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivered {
    /// Handed over.
    pub sent: u64,
    /// To be tried again.
    pub put_off: u64,
    /// Never to be tried again.
    pub given_up: u64,
    /// Old ones that were forgotten.
    pub forgotten: u64,
}

/// Queues a mail in the transaction of the change that it tells of.
///
/// # Errors
/// What the database says.
pub fn queue(tx: &mut dyn Tx, ctx: &OpCtx, postbox: &Postbox, mail: &Mail) -> Result<MailId> {
    let id: MailId = ctx.mint();
    let sealed = postbox
        .sealer
        .seal(&id.to_string(), mail.text.expose().as_bytes())
        .map_err(Error::internal)?;
    store::insert(tx, id, mail, sealed, ctx.now)?;
    Ok(id)
}

impl Postbox {
    /// Sends what is due, one after the other, and forgets what is old.
    ///
    /// # Errors
    /// What the database says; what the carrier says is noted with the mail.
    pub async fn deliver(&self) -> Result<Delivered> {
        let now = self.clock.now();
        let due = self
            .db
            .read("mail.due", move |tx| store::due(tx, now, BATCH))
            .await?;
        let mut done = Delivered::default();
        for id in due {
            let (now, until) = (self.clock.now(), self.clock.now().plus_ms(TAKEN_MS));
            let taken = self
                .db
                .write("mail.take", move |tx| store::take(tx, id, now, until))
                .await?;
            if let Some(taken) = taken {
                self.attempt(taken, &mut done).await?;
            }
        }
        let before = self.clock.now().plus_ms(-KEPT_MS);
        done.forgotten = self
            .db
            .write("mail.forget", move |tx| store::forget(tx, before, BATCH))
            .await?;
        Ok(done)
    }

    async fn attempt(&self, taken: Taken, done: &mut Delivered) -> Result<()> {
        let (id, attempt) = (taken.id, taken.attempt);
        let outcome = self.hand_over(taken).await;
        let now = self.clock.now();
        let (next, error) = match outcome {
            Ok(()) => (None, None),
            Err(MailError::Later(why)) => (retry_after_ms(attempt), Some(short(&why))),
            Err(MailError::Never(why)) => (None, Some(short(&why))),
        };
        match (&error, next) {
            (None, _) => done.sent += 1,
            (Some(error), Some(after_ms)) => {
                done.put_off += 1;
                tracing::warn!(mail.id = %id, attempt, after_ms, error, "mail not sent, it is tried again");
            }
            (Some(error), None) => {
                done.given_up += 1;
                metrics::counter!("mail_given_up_total").increment(1);
                tracing::error!(mail.id = %id, attempt, error, "mail given up");
            }
        }
        self.db
            .write("mail.attempted", move |tx| match (&error, next) {
                (None, _) => store::finish(tx, id, attempt, "sent", None, now),
                (Some(error), Some(after_ms)) => {
                    store::put_off(tx, id, attempt, error, now.plus_ms(after_ms))
                }
                (Some(error), None) => store::finish(tx, id, attempt, "given_up", Some(error), now),
            })
            .await
    }

    async fn hand_over(&self, taken: Taken) -> Result<(), MailError> {
        if taken
            .expires
            .is_some_and(|expires| expires <= self.clock.now())
        {
            return Err(MailError::Never("nobody needs it any more".to_owned()));
        }
        let text = self
            .sealer
            .open(&taken.id.to_string(), &taken.sealed)
            .map_err(Error::internal)
            .and_then(|bytes| String::from_utf8(bytes).map_err(Error::internal))
            .map_err(|error| MailError::Never(error.to_string()))?;
        let letter = Letter {
            id: taken.id,
            to: taken.to,
            subject: taken.subject,
            text: Secret::new(text),
            written: taken.created,
        };
        self.mailer.send(&letter).await
    }
}

/// An answer from outside, as a line of bounded length.
fn short(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(ERROR_CHARS_MAX).collect()
}
