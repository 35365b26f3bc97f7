//! Paying an order by x402: receive → verify → settle → credit and start, each step durable before the next.
//!
//! # Invariants
//! - Nothing is asked of the facilitator inside a transaction, and nothing is asked before the payment is on disk.
//! - Any step may be repeated, by this process or another: the state's guard lets one of them win.
//! - Crediting the payment and starting (or extending) the rental are one transaction.

use std::{sync::Arc, time::Duration};

use shared::{
    clock::Clock,
    id::{Ids, PaymentId, QuoteId, RentalId},
    x402::{exact, payment::PresentedPayment},
};

use super::{
    Rules, changes, find,
    order::{self, Buyer, RentOrder},
};
use crate::{
    context::{Actor, OpCtx},
    domain::payments::{
        self, Received,
        model::{Payee, Payment, PaymentEvent, PaymentState, Purpose, Quote},
        ports::{Facilitator, SettleOutcome, SettleRequest, VerifyOutcome},
    },
    error::{Error, Result},
    store::{Db, Tx},
};

/// How long room is held for a payment that nobody settles.
const RESERVE_MS: i64 = 120_000;

/// What is being bought. The offer of a new rental comes from its quote.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// A new rental.
    Rent {
        /// What and how long.
        order: RentOrder,
        /// A quote that was asked for before.
        quote_id: Option<QuoteId>,
    },
    /// More time.
    Extend {
        /// For which rental.
        rental_id: RentalId,
        /// How much.
        duration_ms: i64,
    },
}

/// What receiving a payment came to.
#[derive(Debug)]
pub enum Reception {
    /// It is new, durable, and its room is held.
    New(Payment),
    /// The same signed payment came before.
    Before(Payment),
    /// It can't be taken: ask for payment again, with this reason.
    AskAgain(String),
}

/// How far [`Purchases::drive`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Verified and held (`payments/authorize`).
    Verified,
    /// Settled.
    Settled,
}

/// Everything that a purchase needs.
#[derive(Debug)]
pub struct Purchases {
    /// The database.
    pub db: Db,
    /// Who moves the money.
    pub facilitator: Arc<dyn Facilitator>,
    /// Whom to pay and how.
    pub payee: Payee,
    /// The market's rules.
    pub rules: Rules,
    /// Without a slash at its end.
    pub public_url: String,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The source of ids.
    pub ids: Arc<Ids>,
}

impl Purchases {
    fn context(&self) -> OpCtx {
        OpCtx::new(
            Actor::System,
            self.clock.now(),
            "payment".to_owned(),
            Arc::clone(&self.ids),
        )
    }

    /// Takes a presented payment: its identity, its quote and the room, in one transaction.
    ///
    /// # Errors
    /// 409 `capacity_gone` (the payer keeps the money), `payment_conflict`; as [`order::extendable`].
    pub async fn receive(
        &self,
        ctx: &OpCtx,
        presented: PresentedPayment,
        wanted: Wanted,
        request_sha256: [u8; 32],
    ) -> Result<Reception> {
        let (ctx, rules, public_url) = (ctx.clone(), self.rules, self.public_url.clone());
        self.db
            .write("payment.receive", move |tx| {
                if let Some(before) = payments::find_presented(tx, &presented)? {
                    return Ok(Reception::Before(before));
                }
                let quotes = quotes_for(tx, &ctx, &presented, &wanted, &request_sha256)?;
                let Some(first) = quotes.first() else {
                    return Ok(Reception::AskAgain(
                        "no open quote has these terms: pay the new ones".to_owned(),
                    ));
                };
                let verified = match exact::check(&first.terms(&public_url), &presented, ctx.now) {
                    Ok(verified) => verified,
                    Err(reject) => {
                        return Ok(Reception::AskAgain(format!("{}: {reject}", reject.code())));
                    }
                };
                for quote in &quotes {
                    let rental_id = match &wanted {
                        Wanted::Rent { .. } => ctx.mint(),
                        Wanted::Extend { rental_id, .. } => *rental_id,
                    };
                    match payments::receive(tx, &ctx, quote, rental_id, &presented, &verified)? {
                        Received::QuoteTaken => {}
                        Received::Before(payment) => return Ok(Reception::Before(payment)),
                        Received::New(payment) => {
                            hold(tx, &ctx, &rules, &wanted, quote, &payment)?;
                            return Ok(Reception::New(payment));
                        }
                    }
                }
                Ok(Reception::AskAgain(
                    "the quote was paid by somebody else: pay the new one".to_owned(),
                ))
            })
            .await
    }

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
        // a payment that stays verified is nobody's: whoever wants it settled may take it up at once
        let left_alone_ms = match until {
            Until::Verified => 0,
            Until::Settled => payments::DRIVER_GRACE_MS,
        };
        match self
            .facilitator
            .verify(&self.request(payment, quote)?)
            .await
        {
            VerifyOutcome::Valid { .. } => {
                self.advance(payment, PaymentEvent::Verify, None, left_alone_ms)
                    .await
            }
            VerifyOutcome::Invalid { reason } => self.refuse(payment, quote, reason).await,
            VerifyOutcome::Unknown { detail } => self.postpone(payment, detail).await,
        }
    }

    async fn settle(&self, payment: &Payment, quote: &Quote) -> Result<Moved> {
        let settling = match self
            .advance(
                payment,
                PaymentEvent::BeginSettle,
                None,
                payments::DRIVER_GRACE_MS,
            )
            .await?
        {
            Moved::On(settling) => settling,
            other => return Ok(other),
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

    async fn advance(
        &self,
        payment: &Payment,
        event: PaymentEvent,
        note: Option<String>,
        left_alone_ms: i64,
    ) -> Result<Moved> {
        let (ctx, payment) = (self.context(), payment.clone());
        self.db
            .write("payment.advance", move |tx| {
                let moved =
                    payments::advance(tx, &ctx, &payment, event, note.as_deref(), left_alone_ms)?;
                Ok(moved.map_or(Moved::BySomebodyElse, Moved::On))
            })
            .await
    }

    async fn postpone(&self, payment: &Payment, detail: String) -> Result<Moved> {
        tracing::warn!(payment.id = %payment.id, detail, "payment outcome unclear");
        match self
            .advance(payment, PaymentEvent::Unclear, Some(detail), 0)
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
            // before settlement was asked for it isn't known whether it should be: `authorize` only holds. A repeat asks for it
            let until = match payment.state {
                PaymentState::Received | PaymentState::Verified => Until::Verified,
                _ => Until::Settled,
            };
            match self.drive(payment.id, until).await {
                Ok(payment) if payment.state.is_final() => ended += 1,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(payment.id = %payment.id, %error, "payment could not be taken up")
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
                for rental in super::timers::lapsed(tx, &ctx)? {
                    let Some(payment) = payments::of_rental(tx, rental.id)? else {
                        continue;
                    };
                    let Ok(PaymentState::Expired) = payment.state.next(PaymentEvent::Expire) else {
                        continue;
                    };
                    if payments::advance(tx, &ctx, &payment, PaymentEvent::Expire, None, 0)?
                        .is_some()
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

enum Moved {
    On(Payment),
    Waits(Payment),
    BySomebodyElse,
}

fn quotes_for(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    presented: &PresentedPayment,
    wanted: &Wanted,
    request_sha256: &[u8; 32],
) -> Result<Vec<Quote>> {
    match wanted {
        Wanted::Rent {
            order,
            quote_id: Some(id),
        } => {
            let quote = payments::open_quote(tx, ctx, *id)?;
            matches_order(&quote, order)?;
            Ok(vec![quote])
        }
        _ => payments::quotes_for_request(tx, ctx, request_sha256, presented.authorization.value),
    }
}

/// Whether a quote that was asked for before is one of this order.
///
/// # Errors
/// 422.
pub fn matches_order(quote: &Quote, order: &RentOrder) -> Result<()> {
    let same = quote.purpose == Purpose::Rent
        && quote.offer_id == order.offer_id
        && quote.resources == order.resources
        && quote.duration_ms == order.duration_ms;
    if same {
        Ok(())
    } else {
        Err(Error::invalid(
            "/quote_id",
            "this quote is for another order: ask for one of this order",
        ))
    }
}

fn hold(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    wanted: &Wanted,
    quote: &Quote,
    payment: &Payment,
) -> Result<()> {
    match wanted {
        Wanted::Rent { order, .. } => {
            order::check_spend(order, quote.amount)?;
            let order = RentOrder {
                offer_id: quote.offer_id,
                ..order.clone()
            };
            let buyer = Buyer {
                rental_id: payment.rental_id,
                payer: Some(payment.payer.clone()),
                hold_ms: RESERVE_MS,
                rate: quote.rate,
                fee_bps: quote.fee_bps,
                asset: quote.asset,
            };
            order::reserve(tx, ctx, &order, &buyer).map(|_| ())
        }
        Wanted::Extend {
            rental_id,
            duration_ms,
        } => order::extendable(tx, ctx, rules, *rental_id, *duration_ms).map(|_| ()),
    }
}
