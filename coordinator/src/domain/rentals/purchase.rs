//! Paying an order by x402: receive here, then verify → settle → credit and start in [`drive`], each step durable before the next.
//!
//! # Invariants
//! - Nothing is asked of the facilitator inside a transaction, and nothing is asked before the payment is on disk.
//! - Any step may be repeated, by this process or another: the state's guard lets one of them win.
//! - Crediting the payment and starting (or extending) the rental are one transaction.

mod drive;
mod ends;
mod outcome;

use std::sync::Arc;

use shared::{
    clock::Clock,
    id::{Ids, QuoteId, RentalId},
    money::{Amount, Asset},
    time::Timestamp,
    x402::{exact, payment::PresentedPayment, sign_in::Site},
};

use super::{
    Desk, Rules,
    order::{self, Buyer, RentOrder},
};
use crate::{
    context::{Actor, OpCtx},
    domain::{
        ledger::halt,
        payments::{
            self, Received,
            extensions::{self, SignIn},
            model::{Payment, Purpose, Quote, Target},
            payees::Payees,
            routes::Routes,
        },
        rates::Rates,
    },
    error::{Error, Result},
    store::{Db, Tx},
};

/// How long room is held for a payment that nobody settles.
const RESERVE_MS: i64 = 120_000;

/// What is being bought. The offer of a new rental comes from its quote.
#[expect(
    clippy::large_enum_variant,
    reason = "one lives as long as its request"
)]
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
    /// Money on the caller's balance.
    TopUp {
        /// How much.
        amount: Amount,
        /// In which currency.
        asset: Asset,
    },
}

impl Wanted {
    /// Whether a quote sells this to this caller. The hash by which it was found says so already; it is looked at again where the
    /// money would go to somebody.
    fn is_sold_by(&self, quote: &Quote, ctx: &OpCtx) -> bool {
        match (self, &quote.purpose) {
            (Self::Rent { .. }, Purpose::Rent(_)) => true,
            (Self::Extend { rental_id, .. }, Purpose::Extend(rental, _)) => rental_id == rental,
            (Self::TopUp { amount, asset }, Purpose::TopUp(user)) => {
                (*amount, *asset) == (quote.amount, quote.asset)
                    && ctx.user().is_ok_and(|person| person.id == *user)
            }
            _ => false,
        }
    }
}

/// What receiving a payment came to.
#[derive(Debug)]
pub enum Reception {
    /// It is new, durable, and its room is held; with the quote that it pays.
    New(Payment, Box<Quote>),
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
    /// Who moves the money on which network.
    pub routes: Routes,
    /// What one currency costs in another.
    pub rates: Arc<Rates>,
    /// Whom to pay and how.
    pub payees: Payees,
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

    /// What selling for money on a balance goes by.
    #[must_use]
    pub fn desk(&self) -> Desk {
        Desk {
            rules: self.rules,
            rates: Arc::clone(&self.rates),
        }
    }

    /// CAIP-2 names of the chains that can be paid on.
    #[must_use]
    pub fn chains(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.payees.all().map(|payee| payee.network.caip2).collect();
        names.dedup();
        names
    }

    /// Takes a presented payment: its identity, its quote and the room, in one transaction.
    ///
    /// # Errors
    /// 409 `capacity_gone` (the payer keeps the money), `payment_conflict`; 503 while the books are halted; as [`order::extendable`].
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
                if let Some(before) = payments::find_repeat(tx, &presented, &request_sha256)? {
                    return Ok(Reception::Before(before));
                }
                let order = (&wanted, &request_sha256);
                let taken = take(tx, &ctx, &rules, &public_url, &presented, order);
                // on PostgreSQL each statement sees what was committed before it: the same payment may have come meanwhile
                // through another request, and with it went the quote
                if quote_is_gone(&taken)
                    && let Some(before) = payments::find_repeat(tx, &presented, &request_sha256)?
                {
                    return Ok(Reception::Before(before));
                }
                taken
            })
            .await
    }
}

/// Takes a payment that hasn't come before: its quote, its identity and the room.
fn take(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rules: &Rules,
    public_url: &str,
    presented: &PresentedPayment,
    (wanted, request_sha256): (&Wanted, &[u8; 32]),
) -> Result<Reception> {
    halt::check(tx)?;
    let quotes = quotes_for(tx, ctx, presented, wanted, request_sha256)?;
    let Some(first) = quotes.first() else {
        return Ok(Reception::AskAgain(
            "no open quote has these terms: pay the new ones".to_owned(),
        ));
    };
    if let Some(name) = echoed_wrong(&first.purpose, public_url, presented) {
        return Ok(Reception::AskAgain(format!(
            "extension_echo_mismatch: the extension {name} was echoed otherwise than it was offered"
        )));
    }
    let identity = presented.identity();
    let way = identity.and_then(|paid| first.way(paid.network.caip2, &paid.asset));
    let terms = match &way {
        Some(way) => first.terms_of(way, public_url),
        None => first.terms(public_url),
    };
    let verified = match exact::check(&terms, presented, ctx.now) {
        Ok(verified) => verified,
        Err(reject) => {
            return Ok(Reception::AskAgain(format!("{}: {reject}", reject.code())));
        }
    };
    for quote in &quotes {
        let target = match quote.purpose {
            Purpose::Rent(_) => Target::Rental(ctx.mint()),
            Purpose::Extend(rental, _) => Target::Rental(rental),
            Purpose::TopUp(user) => Target::Balance(user),
        };
        match payments::receive(
            tx,
            ctx,
            quote,
            target,
            (presented, request_sha256),
            &verified,
        )? {
            Received::QuoteTaken => {}
            Received::Before(payment) => return Ok(Reception::Before(payment)),
            Received::New(payment) => {
                hold(tx, ctx, rules, wanted, quote, &payment)?;
                return Ok(Reception::New(payment, Box::new(quote.clone())));
            }
        }
    }
    Ok(Reception::AskAgain(
        "the quote was paid by somebody else: pay the new one".to_owned(),
    ))
}

/// The extension that a client changed in echoing it.
fn echoed_wrong(
    purpose: &Purpose,
    public_url: &str,
    presented: &PresentedPayment,
) -> Option<String> {
    let site = Site {
        origin: public_url.to_owned(),
    };
    // what is new in each 402 isn't compared
    let sign_in = SignIn {
        site: &site,
        chains: Vec::new(),
        nonce: String::new(),
        now: Timestamp::from_secs(0),
    };
    let offered = extensions::offered(purpose, &sign_in);
    extensions::mismatched(&offered, &presented.verbatim)
}

/// Whether somebody was faster with the quote. After any other error the transaction can't be asked any more.
fn quote_is_gone(taken: &Result<Reception>) -> bool {
    match taken {
        Ok(Reception::AskAgain(_)) => true,
        Ok(_) => false,
        Err(error) => error.code() == "quote_used",
    }
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
        _ => {
            let mut quotes = payments::quotes_for_request(tx, ctx, request_sha256, presented)?;
            quotes.retain(|quote| wanted.is_sold_by(quote, ctx));
            Ok(quotes)
        }
    }
}

/// Whether a quote that was asked for before is one of this order.
///
/// # Errors
/// 422.
pub fn matches_order(quote: &Quote, order: &RentOrder) -> Result<()> {
    let same = matches!(&quote.purpose, Purpose::Rent(slice) if slice.offer_id == order.offer_id
        && slice.resources == order.resources
        && slice.duration_ms == order.duration_ms);
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
    match (wanted, &quote.purpose, payment.target) {
        (Wanted::Rent { order, .. }, Purpose::Rent(slice), Target::Rental(rental_id)) => {
            order::check_spend(order, quote.amount, quote.asset)?;
            let order = RentOrder {
                offer_id: slice.offer_id,
                image: quote.image.clone().or_else(|| order.image.clone()),
                ..order.clone()
            };
            let buyer = Buyer {
                rental_id,
                payer: Some(payment.payer.clone()),
                hold_ms: RESERVE_MS,
                rate: slice.rate,
                fee_bps: slice.fee_bps,
                asset: quote.asset,
                balance_asset: quote.asset,
            };
            order::reserve(tx, ctx, &order, &buyer).map(|_| ())
        }
        (
            Wanted::Extend {
                rental_id,
                duration_ms,
            },
            Purpose::Extend(..),
            _,
        ) => order::extendable(tx, ctx, rules, *rental_id, *duration_ms).map(|_| ()),
        // a balance has room for any sum
        (Wanted::TopUp { .. }, Purpose::TopUp(_), Target::Balance(_)) => Ok(()),
        _ => Err(Error::internal(
            "a quote of another kind was found for the order",
        )),
    }
}
