//! A received payment on its way to its end, and the room of those that never get there.
//!
//! # Invariants
//! - Nothing is asked of the facilitator inside a transaction; its answer is written under the state it was asked in.
//! - Any step may be repeated, by this process or another: the state's guard lets one of them win.

use std::time::Duration;

use shared::id::PaymentId;

use super::{Purchases, Until};
use crate::{
    domain::{
        payments::{
            self,
            model::{Payment, PaymentEvent, PaymentState, Purpose, Quote},
            ports::{SettleOutcome, SettleRequest, VerifyOutcome},
        },
        rentals::{changes, find, timers},
    },
    error::{Error, Result},
};

enum Moved {
    On(Payment),
    Waits(Payment),
    BySomebodyElse,
}

impl Purchases {
    /// Moves a payment as far as it goes now; returns where it is. Unclear answers leave it to the next try.
    ///
    /// # Errors
    /// The database's; the payment is where it was.
    pub async fn drive(&self, id: PaymentId, until: Until) -> Result<Payment> {
        let (mut payment, quote) = self.load(id).await?;
        loop {
            let moved = match payment.state {
                PaymentState::Credited | PaymentState::Rejected | PaymentState::Expired => {
                    return Ok(payment);
                }
                PaymentState::Received => self.verify(&payment, &quote, until).await?,
                PaymentState::Verified if until == Until::Verified => return Ok(payment),
                PaymentState::Verified | PaymentState::Settling | PaymentState::Pending => {
                    self.settle(&payment, &quote).await?
                }
            };
            match moved {
                Moved::On(next) => payment = next,
                Moved::Waits(next) => return Ok(next),
                Moved::BySomebodyElse => payment = self.load(id).await?.0,
            }
        }
    }

    /// Waits until a payment is final or `patience` is over; returns where it is.
    ///
    /// # Errors
    /// The database's.
    pub async fn wait(&self, id: PaymentId, patience: Duration) -> Result<Payment> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut commits = self.db.committed();
        loop {
            let payment = self.load(id).await?.0;
            if payment.state.is_final() || tokio::time::Instant::now() >= deadline {
                return Ok(payment);
            }
            // another coordinator's commits aren't announced here: look again after a moment all the same
            let look_again = deadline.min(tokio::time::Instant::now() + Duration::from_millis(250));
            tokio::select! {
                _ = commits.changed() => {}
                () = tokio::time::sleep_until(look_again) => {}
            }
        }
    }

    async fn load(&self, id: PaymentId) -> Result<(Payment, Quote)> {
        self.db
            .read("payment.load", move |tx| {
                let payment = payments::get(tx, id)?;
                let quote = payments::quote_of(tx, &payment)?;
                Ok((payment, quote))
            })
            .await
    }

    fn request(&self, payment: &Payment, quote: &Quote) -> Result<SettleRequest> {
        Ok(SettleRequest {
            payment_id: payment.id,
            terms: quote.terms(&self.public_url),
            payload: serde_json::from_str(&payment.payload)
                .map_err(|_| Error::corrupt("payments", &payment.id.to_string(), "payload"))?,
            version: payment.x402_version,
        })
    }

    async fn verify(&self, payment: &Payment, quote: &Quote, until: Until) -> Result<Moved> {
        match self
            .facilitator
            .verify(&self.request(payment, quote)?)
            .await
        {
            VerifyOutcome::Valid { .. } if until == Until::Settled => {
                // one commit for both steps: nothing happens between them, and a client waits
                let events = &[PaymentEvent::Verify, PaymentEvent::BeginSettle];
                let begun = self.advance(payment, events, None).await?;
                self.ask_to_settle(begun, quote).await
            }
            VerifyOutcome::Valid { .. } => {
                self.advance(payment, &[PaymentEvent::Verify], None).await
            }
            VerifyOutcome::Invalid { reason } => self.refuse(payment, quote, reason).await,
            VerifyOutcome::Unknown { detail } => self.postpone(payment, detail).await,
        }
    }

    async fn settle(&self, payment: &Payment, quote: &Quote) -> Result<Moved> {
        let begun = self
            .advance(payment, &[PaymentEvent::BeginSettle], None)
            .await?;
        self.ask_to_settle(begun, quote).await
    }

    /// Asks for the money of a payment of which it is durable that it is being settled.
    async fn ask_to_settle(&self, begun: Moved, quote: &Quote) -> Result<Moved> {
        let Moved::On(settling) = begun else {
            return Ok(begun);
        };
        match self
            .facilitator
            .settle(&self.request(&settling, quote)?)
            .await
        {
            SettleOutcome::Settled { transaction, .. } => {
                self.credit(&settling, quote, transaction).await
            }
            SettleOutcome::Refused { reason } => self.refuse(&settling, quote, reason).await,
            SettleOutcome::Unknown { detail } => self.postpone(&settling, detail).await,
        }
    }

    /// Moves a payment by these events, in one commit.
    async fn advance(
        &self,
        payment: &Payment,
        events: &'static [PaymentEvent],
        note: Option<String>,
    ) -> Result<Moved> {
        let (ctx, payment) = (self.context(), payment.clone());
        self.db
            .write("payment.advance", move |tx| {
                let mut at = payment.clone();
                for event in events {
                    match payments::advance(tx, &ctx, &at, *event, note.as_deref())? {
                        Some(moved) => at = moved,
                        None => return Ok(Moved::BySomebodyElse),
                    }
                }
                Ok(Moved::On(at))
            })
            .await
    }

    async fn postpone(&self, payment: &Payment, detail: String) -> Result<Moved> {
        tracing::warn!(payment.id = %payment.id, detail, "payment outcome unclear");
        match self
            .advance(payment, &[PaymentEvent::Unclear], Some(detail))
            .await?
        {
            Moved::On(next) => Ok(Moved::Waits(next)),
            other => Ok(other),
        }
    }

    async fn refuse(&self, payment: &Payment, quote: &Quote, reason: String) -> Result<Moved> {
        let (ctx, payment, purpose) = (self.context(), payment.clone(), quote.purpose);
        self.db
            .write("payment.refuse", move |tx| {
                let Some(refused) =
                    payments::advance(tx, &ctx, &payment, PaymentEvent::Refuse, Some(&reason))?
                else {
                    return Ok(Moved::BySomebodyElse);
                };
                if purpose == Purpose::Rent {
                    let rental = find(tx, payment.rental_id)?;
                    changes::lapse(
                        tx,
                        &ctx,
                        &rental,
                        &format!("the payment was refused: {reason}"),
                    )?;
                }
                Ok(Moved::On(refused))
            })
            .await
    }

    async fn credit(&self, payment: &Payment, quote: &Quote, transaction: String) -> Result<Moved> {
        let (ctx, rules, payment, quote) =
            (self.context(), self.rules, payment.clone(), quote.clone());
        self.db
            .write("payment.credit", move |tx| {
                let Some(credited) =
                    payments::credit(tx, &ctx, &payment, quote.asset, &transaction)?
                else {
                    return Ok(Moved::BySomebodyElse);
                };
                match quote.purpose {
                    Purpose::Rent => {
                        changes::activate(tx, &ctx, &rules, payment.rental_id, payment.amount)?
                    }
                    Purpose::Extend => changes::extend(
                        tx,
                        &ctx,
                        &rules,
                        payment.rental_id,
                        quote.duration_ms,
                        payment.amount,
                    )?,
                };
                Ok(Moved::On(credited))
            })
            .await
    }

    /// Takes up payments whose process died or whose answer was unclear; returns how many reached an end.
    ///
    /// # Errors
    /// The database's, while finding them; a payment that fails is logged and tried again later.
    pub async fn reconcile(&self) -> Result<usize> {
        let ctx = self.context();
        let due = self
            .db
            .read("payment.due", move |tx| payments::due(tx, &ctx, 100))
            .await?;
        let mut ended = 0;
        for payment in due {
            let until = if payment.state == PaymentState::Verified {
                Until::Verified
            } else {
                Until::Settled
            };
            match self.drive(payment.id, until).await {
                Ok(payment) if payment.state.is_final() => ended += 1,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(payment.id = %payment.id, %error, "payment could not be taken up");
                }
            }
        }
        Ok(ended)
    }

    /// Lets reservations lapse that nobody settles; returns how many.
    ///
    /// # Errors
    /// The database's.
    pub async fn lapse(&self) -> Result<usize> {
        let ctx = self.context();
        self.db
            .write("rental.lapse", move |tx| {
                let mut lapsed = 0;
                for rental in timers::lapsed(tx, &ctx)? {
                    let Some(payment) = payments::of_rental(tx, rental.id)? else {
                        continue;
                    };
                    let Ok(PaymentState::Expired) = payment.state.next(PaymentEvent::Expire) else {
                        continue;
                    };
                    if payments::advance(tx, &ctx, &payment, PaymentEvent::Expire, None)?.is_some()
                    {
                        changes::lapse(tx, &ctx, &rental, "it wasn't paid in time")?;
                        lapsed += 1;
                    }
                }
                Ok(lapsed)
            })
            .await
    }
}
