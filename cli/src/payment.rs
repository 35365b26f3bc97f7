//! A request that has to be paid: asked, priced, signed, sent, and repeated until its outcome is known.
//!
//! # Invariants
//! - One signature for one order. Payer and nonce are the idempotency key: a repetition is byte for byte the same, and
//!   the market takes it once.
//! - It is written down before it is sent and crossed out after a definite answer.
//! - Nothing is signed before it is counted against the wallet's limits ([`Spending`]); what was counted is taken back after a definite no.
//! - Only who ordered repeats: to somebody else the market says that there is no such payment, which would read as a no.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;
use shared::{
    clock::{Clock as _, SystemClock},
    money::{Amount, Asset, Money},
    x402::{
        client::{self, Chosen, Refusal, SignedPayment},
        header,
        wire_v2::{PaymentRequired, SettleResponse},
    },
};

use crate::{
    api::{Answer, Api, Auth, Request},
    failure::{Failure, Kind, Result},
    key_file,
    local::Unfinished,
    output::tell,
    passphrase::Passphrase,
    random,
    spending::{Spending, Wish},
};

/// How often a payment is repeated while its outcome isn't known: with the waits, about ten minutes, longer than it is
/// valid.
const ATTEMPTS_MAX: u32 = 48;
const WAIT_S_MAX: u64 = 15;

/// An order that costs something.
pub struct Order {
    /// Where it goes.
    pub path: String,
    /// What is ordered.
    pub body: Value,
    /// Who orders.
    pub auth: Auth,
}

/// Who pays, and how much at most.
#[derive(Debug, Clone)]
pub struct Payer {
    /// What was spent, and the limits.
    pub spending: Spending,
    /// The key's file; opened when something is to be paid.
    pub key_file: PathBuf,
    /// What opens it.
    pub passphrase: Passphrase,
    /// In which currency.
    pub currency: Asset,
    /// What was allowed by name, instead of the limit for one payment.
    pub allowed: Option<Amount>,
    /// What it may cost at most, whatever the limits say and nobody being asked.
    pub ceiling: Option<Amount>,
    /// Whether somebody may be asked about what is above a limit.
    pub may_ask: bool,
}

/// Why an order brought nothing, or nobody knows what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbought {
    /// What happened.
    pub failure: Failure,
    /// Whether it may have been charged all the same.
    pub may_have_cost: bool,
}

/// Before anything was sent, and after a definite no.
impl From<Failure> for Unbought {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            may_have_cost: false,
        }
    }
}

impl From<Unbought> for Failure {
    fn from(unbought: Unbought) -> Self {
        unbought.failure
    }
}

impl Unbought {
    /// It may have been charged.
    pub const fn perhaps(failure: Failure) -> Self {
        Self {
            failure,
            may_have_cost: true,
        }
    }
}

/// What an order brought.
#[derive(Debug, Clone)]
pub struct Bought {
    /// The market's answer.
    pub answer: Value,
    /// What was paid for it; nothing if it was free.
    pub paid: Option<Money>,
}

/// Orders, pays what is asked if the limits allow it, and returns the market's answer to the paid request.
///
/// # Errors
/// Exit code 6 if it isn't or can't be paid; else what the market says.
pub async fn order(api: &Api, order: &Order, payer: &Payer) -> Result<Bought, Unbought> {
    // without a key nothing is asked for: the market would reserve for nobody
    key_file::address(&payer.key_file)?;
    let request = Request::post(&order.path, order.body.clone()).auth(order.auth.clone());
    let answer = api.send(&request).await?;
    if answer.status.as_u16() != 402 {
        // an order that costs nothing, or one that fails before it is priced
        let answer = answer.ok()?;
        return Ok(Bought { answer, paid: None });
    }
    let offer = terms_of(&answer)?;
    let most = payer
        .ceiling
        .map_or_else(|| Amount::from_atomic(i64::MAX), Ok);
    let most = most.map_err(|error| Failure::failed(error.to_string()))?;
    let chosen = client::choose_in(&offer, payer.currency, most).map_err(refused)?;
    let paid = Money {
        amount: chosen.amount,
        currency: chosen.token.asset,
    };
    let nonce = random::bytes::<32>()?;
    let name = format!("0x{}", hex::encode(nonce));
    let wish = Wish {
        amount: paid.amount,
        currency: paid.currency,
        what: what(&order.path).to_owned(),
        allowed: payer.allowed,
        may_ask: payer.may_ask && payer.ceiling.is_none(),
    };
    payer.spending.count(&name, &wish, SystemClock.now())?;
    let signed = match sign(&chosen, payer, nonce) {
        Ok(signed) => signed,
        Err(failure) => {
            payer.spending.take_back(&name)?;
            return Err(failure.into());
        }
    };
    let payment = Unfinished {
        path: order.path.clone(),
        body: order.body.clone(),
        payment: signed.header_v2,
        amount: format!("{} {}", paid.amount, paid.currency),
        ordered_by: Some(api.who(&order.auth)?),
    };
    if let Err(failure) = api.local.add_unfinished(&name, payment.clone()) {
        payer.spending.take_back(&name)?;
        return Err(failure.into());
    }
    let answer = finish(api, &payer.spending, &name, &payment, &order.auth).await?;
    let paid = Some(paid);
    Ok(Bought { answer, paid })
}

fn what(path: &str) -> &'static str {
    if path.ends_with("/extend") {
        "an extension"
    } else if path.ends_with("/topups") {
        "a top-up"
    } else {
        "a rental"
    }
}

fn sign(chosen: &Chosen, payer: &Payer, nonce: [u8; 32]) -> Result<SignedPayment> {
    let key = key_file::load(&payer.key_file, &payer.passphrase)?;
    tell(&format!(
        "paying {} {} on {} from {}{}",
        chosen.amount,
        chosen.token.asset,
        chosen.network.v1_name,
        key.address(),
        if chosen.network.testnet {
            " (play money)"
        } else {
            ""
        }
    ));
    chosen.pay(&key, nonce, SystemClock.now()).map_err(refused)
}

/// Sends a written-down payment until its outcome is known.
///
/// # Errors
/// As [`order`]; if the outcome still isn't known, the payment stays written down.
pub async fn finish(
    api: &Api,
    spending: &Spending,
    nonce: &str,
    payment: &Unfinished,
    auth: &Auth,
) -> Result<Value, Unbought> {
    let asks = api.who(auth)?;
    if let Some(ordered_by) = payment.ordered_by.as_ref().filter(|by| **by != asks) {
        return Err(Unbought::perhaps(Failure::new(
            Kind::Auth,
            format!(
                "it was ordered by {ordered_by}, and this is {asks}: whether it was charged is said to who ordered; it stays written down"
            ),
        )));
    }
    let request = Request::post(&payment.path, payment.body.clone())
        .auth(auth.clone())
        .header(header::PAYMENT_SIGNATURE, &payment.payment)?;
    for attempt in 0..ATTEMPTS_MAX {
        let wait_s = match api.send(&request).await {
            Ok(answer) => match outcome(&answer) {
                Outcome::Done => return served(api, nonce, answer).map_err(Unbought::perhaps),
                Outcome::Refused(failure) => {
                    api.local.finish(nonce)?;
                    spending.take_back(nonce)?;
                    return Err(failure.into());
                }
                Outcome::NotAllowed(failure) => return Err(Unbought::perhaps(failure)),
                Outcome::Pending => {
                    let waited = await_payment(api, auth, &answer).await;
                    waited.map_err(Unbought::perhaps)?;
                    answer.retry_after_s()
                }
                Outcome::TryAgain => answer.retry_after_s(),
            },
            // it may have arrived: only repeating it tells
            Err(failure) if failure.kind == Kind::Unreachable => {
                tell(&failure.to_string());
                None
            }
            Err(failure) => return Err(Unbought::perhaps(failure)),
        };
        let backoff_s = 1 << attempt.min(4);
        pause(wait_s.unwrap_or(backoff_s)).await;
    }
    Err(Unbought::perhaps(Failure::new(
        Kind::Unreachable,
        "it isn't known yet whether the payment went through: run `ramarket resume` later; it can't be charged twice",
    )))
}

fn served(api: &Api, nonce: &str, answer: Answer) -> Result<Value> {
    remember_token(api, &answer.body)?;
    api.local.finish(nonce)?;
    answer.ok()
}

/// What an answer to a paid request means.
enum Outcome {
    /// Served.
    Done,
    /// Definitely not charged.
    Refused(Failure),
    /// We may not ask: whether it was charged isn't said.
    NotAllowed(Failure),
    /// Received; the market is settling it.
    Pending,
    /// The market couldn't say.
    TryAgain,
}

/// Only the market's own words are definite: a page of something between us and it (no JSON, no code) isn't.
fn outcome(answer: &Answer) -> Outcome {
    let failure = answer.failure();
    let headers = &answer.headers;
    let has_terms = headers.contains_key(header::PAYMENT_REQUIRED)
        || headers.contains_key(header::PAYMENT_RESPONSE);
    match (answer.status.as_u16(), failure.code.as_deref()) {
        (202, _) | (409, Some("payment_in_progress")) => Outcome::Pending,
        (200..=299, _) if answer.body.is_object() => Outcome::Done,
        (402, _) if has_terms => Outcome::Refused(payment_refused(answer)),
        (401 | 403, _) => Outcome::NotAllowed(failure),
        (400..=428, Some(_)) => Outcome::Refused(failure),
        _ => Outcome::TryAgain,
    }
}

/// Waits while the payment is being settled, as long as the market lets us watch it. Its end is learned by repeating the
/// order, so nothing here is an error.
async fn await_payment(api: &Api, auth: &Auth, answer: &Answer) -> Result<()> {
    let Some(id) = ["/payment_id", "/id"]
        .into_iter()
        .find_map(|pointer| answer.body.pointer(pointer)?.as_str())
        .filter(|id| id.parse::<shared::id::PaymentId>().is_ok())
    else {
        return Ok(());
    };
    tell(&format!("payment {id} is being settled"));
    let request = Request::get(format!("/api/v1/payments/{id}")).auth(auth.clone());
    let mut wait_s = answer.retry_after_s();
    for _ in 0..ATTEMPTS_MAX {
        pause(wait_s.unwrap_or(1)).await;
        match api.send(&request).await {
            Ok(answer) if answer.status.is_success() && is_open(&answer.body) => {
                wait_s = answer.retry_after_s();
            }
            Ok(_) => return Ok(()),
            Err(failure) if failure.kind == Kind::Unreachable => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

fn is_open(payment: &Value) -> bool {
    let state = payment.get("state").and_then(Value::as_str);
    matches!(
        state,
        Some("received" | "verified" | "settling" | "pending")
    )
}

async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds.min(WAIT_S_MAX))).await;
}

fn terms_of(answer: &Answer) -> Result<PaymentRequired> {
    let header = answer
        .headers
        .get(header::PAYMENT_REQUIRED)
        .ok_or_else(|| Failure::payment("the market asks for payment but doesn't say how"))?;
    header::decode(header.as_bytes())
        .map_err(|error| Failure::payment(format!("the market's terms can't be read: {error}")))
}

fn refused(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::AboveLimit {
            asset,
            price,
            limit,
        } => Failure::payment(format!(
            "it costs {price} {asset}, above the {limit} {asset} that this may spend: nothing was paid"
        )),
        other => Failure::payment(format!("nothing was paid: {other}")),
    }
}

fn payment_refused(answer: &Answer) -> Failure {
    let receipt = answer.headers.get(header::PAYMENT_RESPONSE);
    let receipt: Option<SettleResponse> =
        receipt.and_then(|value| header::decode(value.as_bytes()).ok());
    let reason = receipt
        .and_then(|receipt| receipt.error_reason)
        .or_else(|| terms_of(answer).ok()?.error)
        .unwrap_or_else(|| answer.failure().to_string());
    Failure::payment(format!("the payment was refused: {reason}"))
}

/// Remembers the token of a rental that was just rented.
///
/// # Errors
/// The client's own file is unusable.
pub fn remember_token(api: &Api, rental: &Value) -> Result<()> {
    let text = |name: &str| rental.get(name).and_then(Value::as_str);
    match (text("id"), text("rental_token")) {
        (Some(id), Some(token)) => api.local.add_rental_token(id, token),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
