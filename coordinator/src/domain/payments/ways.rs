//! The ways in which a quote may be paid: in its own currency, and in others at a rate that the quote fixes.
//!
//! # Invariants
//! - The figures of a way are made with its quote and kept with it; what is presented is compared with them, never computed anew.
//! - What is paid in another currency is worth the price at the fixed rate, rounded up.

use shared::{
    id::QuoteId,
    money::{Amount, Asset},
    time::Timestamp,
    x402::{
        address::Address,
        network::{Network, Token},
        payment::PresentedPayment,
        terms::Terms,
    },
};

use super::{
    model::{Payment, Quote},
    payees::Payees,
    store,
};
use crate::{
    context::OpCtx,
    domain::rates::model::FixedRate,
    error::{Error, Result},
    store::Tx,
};

/// One way to pay a quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// On which network.
    pub network: &'static Network,
    /// With which token.
    pub token: Token,
    /// Its currency.
    pub asset: Asset,
    /// To whom.
    pub pay_to: Address,
    /// How much.
    pub amount: Amount,
    /// At which rate, if it isn't the quote's own currency.
    pub rate: Option<FixedRate>,
}

impl Quote {
    /// Every way to pay it, its own first.
    pub fn ways(&self) -> impl Iterator<Item = Way> + '_ {
        let own = Way {
            network: self.network,
            token: self.token,
            asset: self.asset,
            pay_to: self.pay_to,
            amount: self.amount,
            rate: None,
        };
        std::iter::once(own).chain(self.others.iter().cloned())
    }

    /// The way over a token of a network.
    #[must_use]
    pub fn way(&self, network: &str, token: &Address) -> Option<Way> {
        self.ways()
            .find(|way| way.network.caip2 == network && way.token.address == *token)
    }

    /// The way that a payment of this quote took.
    ///
    /// # Errors
    /// Internal if there is none: the row isn't what was received.
    pub fn way_of(&self, payment: &Payment) -> Result<Way> {
        let token = payment.token.parse().ok();
        token
            .and_then(|token| self.way(&payment.network, &token))
            .ok_or_else(|| Error::corrupt("payments", &payment.id.to_string(), "asset"))
    }

    /// The x402 terms of one of its ways; `public_url` has no slash at its end.
    #[must_use]
    pub fn terms_of(&self, way: &Way, public_url: &str) -> Terms {
        let own = Self {
            network: way.network,
            token: way.token,
            asset: way.asset,
            pay_to: way.pay_to,
            amount: way.amount,
            others: Vec::new(),
            ..self.clone()
        };
        own.terms(public_url)
    }
}

/// The ways to pay a price besides that of `own`: the same currency on other networks, then other currencies that have a rate now.
///
/// # Errors
/// A price doesn't fit.
pub(super) fn others(
    payees: &Payees,
    (amount, own): (Amount, &super::payees::Payee),
    now: Timestamp,
) -> Result<Vec<Way>> {
    let mut ways = Vec::new();
    for payee in payees.all().filter(|payee| *payee != own) {
        let (amount, rate) = if payee.asset == own.asset {
            (amount, None)
        } else {
            let Some(rate) = payees.rates().rate(own.asset, payee.asset, now) else {
                continue;
            };
            (rate.convert(amount)?, Some(rate))
        };
        ways.push(Way {
            network: payee.network,
            token: payee.token,
            asset: payee.asset,
            pay_to: payee.pay_to,
            amount,
            rate,
        });
    }
    ways.sort_by_key(|way| way.rate.is_some());
    Ok(ways)
}

/// A quote with all its ways.
pub(super) fn whole(tx: &mut dyn Tx, id: QuoteId) -> Result<Option<Quote>> {
    let Some(quote) = store::quote(tx, id)? else {
        return Ok(None);
    };
    let others = store::options::of(tx, id)?;
    Ok(Some(Quote { others, ..quote }))
}

/// Quotes that a request was answered with, that are still open and that may be paid as this payment does, newest first.
///
/// # Errors
/// The database's.
pub fn quotes_for_request(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    request_sha256: &[u8; 32],
    presented: &PresentedPayment,
) -> Result<Vec<Quote>> {
    let Ok(amount) = i64::try_from(presented.authorization.value) else {
        return Ok(Vec::new());
    };
    let Some(identity) = presented.identity() else {
        return Ok(Vec::new());
    };
    let (network, token) = (identity.network.caip2, identity.asset);
    let mut quotes = store::open_quotes(tx, request_sha256, amount, ctx.now)?;
    quotes.retain(|quote| quote.way(network, &token).is_some());
    if quotes.is_empty() {
        let wanted = (network, token.to_string());
        let wanted = (wanted.0, wanted.1.as_str(), amount);
        for id in store::options::open(tx, request_sha256, wanted, ctx.now)? {
            quotes.extend(whole(tx, id)?);
        }
    }
    Ok(quotes)
}
