//! A received payment on its way to its end, and the room of those that never get there.
//!
//! # Invariants
//! - Nothing is asked of the facilitator inside a transaction; its answer is written under the state it was asked in.
//! - Any step may be repeated, by this process or another: the state's guard lets one of them win.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all, stream};
use shared::id::{PaymentId, RentalId};

use super::{
    Purchases, Until,
    ends::{deliver, expire},
};
use crate::{
    crash::{self, Side},
    domain::{
        payments::{
            self, DRIVER_GRACE_MS, Transferred,
            model::{Payment, PaymentEvent, PaymentState, Purpose, Quote, Target},
            ports::{SettleOutcome, SettleRequest, VerifyOutcome},
        },
        rentals::{changes, find, timers},
    },
    error::{Error, Result},
    store::Tx,
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
        let (payment, quote) = self.load(id).await?;
        self.drive_on(payment, &quote, until).await
    }

    /// As [`Purchases::drive`], for a payment and its quote as they were just committed.
    ///
    /// # Errors
    /// The database's; the payment is where it was.
    pub async fn drive_on(
        &self,
        mut payment: Payment,
        quote: &Quote,
        until: Until,
    ) -> Result<Payment> {
        loop {
            let moved = match payment.state {
                PaymentState::Credited | PaymentState::Rejected | PaymentState::Expired => {
                    return Ok(payment);
                }
                PaymentState::Received => self.verify(&payment, quote, until).await?,
                // only new rentals are held in two steps; what else was verified is settled by whoever takes it up
                PaymentState::Verified
                    if until == Until::Verified && matches!(quote.purpose, Purpose::Rent(_)) =>
                {
                    return Ok(payment);
                }
                PaymentState::Verified | PaymentState::Settling | PaymentState::Pending => {
                    self.settle(&payment, quote).await?
                }
            };
            match moved {
                Moved::On(next) => payment = next,
                Moved::Waits(next) => return Ok(next),
                Moved::BySomebodyElse => {
                    payment = self.load(payment.id).await?.0;
                    if matches!(
                        payment.state,
                        PaymentState::Settling | PaymentState::Pending
                    ) {
                        // whoever began to settle goes on: two of them must not ask at once
                        return Ok(payment);
                    }
                }
            }
        }
    }

    /// Moves on a payment that nobody asked the facilitator to settle yet, since whoever received it may have died. Of several that
    /// try, one gets to settle; a payment that is being settled is left alone.
    ///
    /// # Errors
    /// The database's; the payment is where it was.
    pub async fn pick_up(&self, id: PaymentId) -> Result<Payment> {
        loop {
            let (payment, quote) = self.load(id).await?;
            let moved = match payment.state {
                PaymentState::Received => self.verify(&payment, &quote, Until::Settled).await?,
                PaymentState::Verified => self.settle(&payment, &quote).await?,
                _ => return Ok(payment),
            };
            if let Moved::Waits(next) = moved {
                return Ok(next);
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
            reference: payment.id.to_string(),
            terms: quote.terms_of(&quote.way_of(payment)?, &self.public_url),
            payload: serde_json::from_str(&payment.payload)
                .map_err(|_| Error::corrupt("payments", &payment.id.to_string(), "payload"))?,
            version: payment.x402_version,
            asked_before: payment.attempts > 1,
        })
    }

    async fn verify(&self, payment: &Payment, quote: &Quote, until: Until) -> Result<Moved> {
        let request = self.request(payment, quote)?;
        crash::point("facilitator.verify", Side::Before).await;
        let outcome = self.judged(&request).await;
        crash::point("facilitator.verify", Side::After).await;
        match outcome {
            VerifyOutcome::Valid { .. } => {}
            // whoever has the payer's signature may have submitted it already: then it is invalid because it is paid
            VerifyOutcome::Invalid { .. } if self.has_moved(&request).await => {}
            VerifyOutcome::Invalid { reason } => return self.refuse(payment, quote, reason).await,
            VerifyOutcome::Unknown { detail } => return self.postpone(payment, detail).await,
        }
        if until == Until::Verified {
            // a payment that stays verified is nobody's: whoever wants it settled may take it up at once
            return self
                .advance(payment, &[PaymentEvent::Verify], None, 0)
                .await;
        }
        // one commit for both steps: nothing happens between them, and a client waits
        let events = &[PaymentEvent::Verify, PaymentEvent::BeginSettle];
        let begun = self.advance(payment, events, None, DRIVER_GRACE_MS).await?;
        self.ask_to_settle(begun, quote).await
    }

    async fn settle(&self, payment: &Payment, quote: &Quote) -> Result<Moved> {
        let events = &[PaymentEvent::BeginSettle];
        let begun = self.advance(payment, events, None, DRIVER_GRACE_MS).await?;
        self.ask_to_settle(begun, quote).await
    }

    /// Asks for the money of a payment of which it is durable that it is being settled.
    async fn ask_to_settle(&self, begun: Moved, quote: &Quote) -> Result<Moved> {
        let Moved::On(settling) = begun else {
            return Ok(begun);
        };
        match self.outcome(&self.request(&settling, quote)?).await {
            SettleOutcome::Settled {
                transaction,
                log_index,
            } => {
                let moved = Transferred {
                    transaction,
                    log_index,
                };
                self.credit(&settling, quote, moved).await
            }
            SettleOutcome::Refused { reason } => self.refuse(&settling, quote, reason).await,
            SettleOutcome::Unknown { detail } => self.postpone(&settling, detail).await,
        }
    }

    /// Moves a payment by these events, in one commit; whoever moved it is left alone with it for so long.
    async fn advance(
        &self,
        payment: &Payment,
        events: &'static [PaymentEvent],
        note: Option<String>,
        left_alone_ms: i64,
    ) -> Result<Moved> {
        let (ctx, payment) = (self.context(), payment.clone());
        self.db
            .write("payment.advance", move |tx| {
                let mut at = payment.clone();
                for event in events {
                    let note = note.as_deref();
                    match payments::advance(tx, &ctx, &at, *event, note, left_alone_ms)? {
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
        // the payer sees the note; the detail is for the log
        let note = "no clear answer yet: it is asked for again".to_owned();
        match self
            .advance(payment, &[PaymentEvent::Unclear], Some(note), 0)
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
                    payments::advance(tx, &ctx, &payment, PaymentEvent::Refuse, Some(&reason), 0)?
                else {
                    return Ok(Moved::BySomebodyElse);
                };
                if let (Purpose::Rent(_), Target::Rental(rental)) = (purpose, payment.target) {
                    let rental = find(tx, rental)?;
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

    async fn credit(&self, payment: &Payment, quote: &Quote, moved: Transferred) -> Result<Moved> {
        let (ctx, rules, payment, quote) =
            (self.context(), self.rules, payment.clone(), quote.clone());
        self.db
            .write("payment.credit", move |tx| {
                let Some(credited) = payments::credit(tx, &ctx, &payment, &quote, &moved)? else {
                    return Ok(Moved::BySomebodyElse);
                };
                deliver(tx, &ctx, &rules, &credited, &quote)?;
                Ok(Moved::On(credited))
            })
            .await
    }

    /// Takes up payments whose process died or whose answer was unclear; returns how many reached an end.
    ///
    /// # Errors
    /// The database's, while finding them; a payment that fails is logged and tried again later.
    pub async fn reconcile(&self) -> Result<usize> {
        let (mut ended, mut after) = (0, timers::beginning());
        loop {
            let (ctx, from) = (self.context(), after.clone());
            let due = self
                .db
                .read("payment.due", move |tx| {
                    payments::due(tx, &ctx, (from.0, &from.1), timers::BATCH)
                })
                .await?;
            let Some(last) = due.last() else {
                return Ok(ended);
            };
            after = (last.next_try_at, last.id.to_string());
            // one facilitator call that hangs doesn't keep the others waiting
            let finals = stream::iter(due)
                .map(|payment| self.take_up(payment))
                .buffer_unordered(TAKEN_UP_AT_ONCE)
                .filter(|ended| std::future::ready(*ended))
                .count();
            ended += finals.await;
        }
    }

    /// True if the payment reached its end.
    async fn take_up(&self, payment: Payment) -> bool {
        let id = payment.id;
        let outcome = if payment.can_no_longer_be_settled(self.clock.now()) {
            let ctx = self.context();
            let expire = move |tx: &mut dyn Tx| expire(tx, &ctx, &payment);
            self.db.write("payment.expire", expire).await
        } else {
            // before settlement was asked for it isn't known whether it should be: `authorize` only holds. A repeat asks for it
            let until = match payment.state {
                PaymentState::Received | PaymentState::Verified => Until::Verified,
                _ => Until::Settled,
            };
            let driven = self.drive(id, until).await;
            driven.map(|payment| payment.state.is_final())
        };
        outcome.unwrap_or_else(|error| {
            tracing::error!(payment.id = %id, %error, "payment could not be taken up");
            false
        })
    }

    /// Lets reservations lapse that nobody settles; returns how many.
    ///
    /// # Errors
    /// The database's, while finding them; one that fails is logged and tried again later.
    pub async fn lapse(&self) -> Result<usize> {
        let (mut lapsed, mut after) = (0, timers::beginning());
        loop {
            let (ctx, from) = (self.context(), after.clone());
            let page = self
                .db
                .read("rental.lapsed", move |tx| timers::lapsed(tx, &ctx, &from))
                .await?;
            let Some(last) = page.last() else {
                return Ok(lapsed);
            };
            after = (last.reserve_until, last.id.to_string());
            let work = page.iter().map(|rental| self.lapse_one(rental.id));
            let done = join_all(work).await;
            lapsed += done.into_iter().filter(|lapsed| *lapsed).count();
        }
    }

    async fn lapse_one(&self, id: RentalId) -> bool {
        let ctx = self.context();
        let lapse = move |tx: &mut dyn Tx| match payments::of_rental(tx, id)? {
            Some(payment) => expire(tx, &ctx, &payment),
            None => Ok(false),
        };
        let outcome = self.db.write("rental.lapse", lapse).await;
        outcome.unwrap_or_else(|error| {
            tracing::error!(rental.id = %id, %error, "reservation could not lapse");
            false
        })
    }
}

/// How many payments are taken up at once.
const TAKEN_UP_AT_ONCE: usize = 8;
