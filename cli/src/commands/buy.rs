//! Orders that cost something: from the wallet within its limits, or from the account's balance.

use serde_json::{Map, Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    money::Asset,
};

use super::Desk;
use crate::{
    api::{Answer, Api, Auth, NOT_SENT, Request},
    args::market::Payment,
    failure::{Failure, Kind, Result},
    local::Keyed,
    output::tell,
    passphrase::Passphrase,
    payment::{self, Bought, Order, Payer, Unbought},
    random,
};

/// How often an order that is paid from the balance is repeated under its key.
const BALANCE_ATTEMPTS_MAX: u32 = 5;
/// The market is at work on an earlier attempt.
const KEY_IN_USE: &str = "idempotency_key_in_use";
/// How old an order may be that is repeated: markets know keys for some days at least.
const REPEATED_MS_MAX: i64 = 20 * 3_600 * 1_000;

/// Who pays by the wallet, as the command line, the environment and the configuration say.
pub(super) fn payer(desk: &Desk, how: &Payment) -> Payer {
    let wallet = &desk.settings.config.wallet;
    let file = how.passphrase_file.clone();
    Payer {
        spending: desk.spending.clone(),
        key_file: super::wallet::key_file(desk, how.key_file.clone()),
        passphrase: Passphrase::of(file.or_else(|| wallet.passphrase_file.clone())),
        currency: how.currency.or(wallet.currency).unwrap_or(Asset::USDC),
        allowed: how.max_price,
        ceiling: None,
        may_ask: true,
    }
}

/// Buys, in the way that is wanted.
pub(super) async fn buy(
    desk: &Desk,
    path: String,
    mut body: Map<String, Value>,
    how: &Payment,
    auth: Auth,
) -> Result<Value> {
    if how.balance {
        if let Some(currency) = how.currency {
            body.insert("currency".into(), json!(currency));
        }
        return Ok(from_balance(&desk.api, &path, body).await?);
    }
    let bought = by_wallet(&desk.api, path, body, auth, &payer(desk, how)).await?;
    Ok(bought.answer)
}

/// Buys with the wallet.
pub(super) async fn by_wallet(
    api: &Api,
    path: String,
    mut body: Map<String, Value>,
    auth: Auth,
    payer: &Payer,
) -> Result<Bought, Unbought> {
    body.insert("pay_with".into(), json!("x402"));
    let body = body.into();
    payment::order(api, &Order { path, body, auth }, payer).await
}

/// Buys from the balance of whoever is signed in. What is bought is written down before it is asked for, as a payment is.
pub(super) async fn from_balance(
    api: &Api,
    path: &str,
    mut body: Map<String, Value>,
) -> Result<Value, Unbought> {
    body.insert("pay_with".into(), json!("balance"));
    if !api.is_somebody()? {
        let hint = "a balance belongs to an account: run `ramarket login` first, or name an API key with --api-key-file";
        return Err(Failure::new(Kind::Auth, hint).into());
    }
    let key = key()?;
    let order = Keyed {
        path: path.to_owned(),
        body: body.into(),
        ordered_by: api.who(&Auth::Account)?,
        at: SystemClock.now(),
    };
    api.local.add_keyed(&key, order.clone())?;
    finish_keyed(api, &key, &order, true).await
}

/// Sends a written-down order that is paid from a balance until its outcome is known. `is_new`: it was never sent before.
///
/// # Errors
/// What the market says; if the outcome still isn't known, the order stays written down.
pub(super) async fn finish_keyed(
    api: &Api,
    key: &str,
    order: &Keyed,
    is_new: bool,
) -> Result<Value, Unbought> {
    let asks = api.who(&Auth::Account)?;
    if asks != order.ordered_by {
        let why = format!(
            "it was ordered by {}, and this is {asks}: it stays written down",
            order.ordered_by
        );
        return Err(Unbought::perhaps(Failure::new(Kind::Auth, why)));
    }
    if SystemClock.now().ms_since(order.at) > REPEATED_MS_MAX {
        api.local.finish_keyed(key)?;
        let why = "it was ordered too long ago to be repeated, and isn't any more: `ramarket rentals` shows whether it was served";
        return Err(Unbought::perhaps(Failure::failed(why)));
    }
    let sent = send(api, key, &order.path, order.body.clone(), Auth::Account).await;
    let (answer, attempts) = sent.map_err(|failure| Unbought::perhaps(unsure(failure)))?;
    if answer.status.is_success() && answer.body.is_object() {
        payment::remember_token(api, &answer.body).map_err(Unbought::perhaps)?;
        api.local.finish_keyed(key).map_err(Unbought::perhaps)?;
        return Ok(answer.body);
    }
    let failure = answer.failure();
    match (answer.status.as_u16(), failure.code.as_deref()) {
        (_, Some(KEY_IN_USE)) => Err(Unbought::perhaps(unsure(failure))),
        // who may not ask any more could before
        (401 | 403, _) if !is_new || attempts > 1 => Err(Unbought::perhaps(unsure(failure))),
        (400..=428, Some(_)) => {
            api.local.finish_keyed(key)?;
            Err(failure.into())
        }
        _ => Err(Unbought::perhaps(unsure(failure))),
    }
}

fn unsure(mut failure: Failure) -> Failure {
    failure.add(
        "whether it was served isn't known: run `ramarket resume` later; it can't be charged twice",
    );
    failure
}

/// Sends a request under one idempotency key until it is answered.
pub(super) async fn send_keyed(
    api: &Api,
    path: &str,
    body: Map<String, Value>,
    auth: Auth,
) -> Result<Value> {
    let (answer, _) = send(api, &key()?, path, body.into(), auth).await?;
    answer.ok()
}

fn key() -> Result<String> {
    Ok(hex::encode(random::bytes::<16>()?))
}

/// The answer, and how many attempts it took.
async fn send(api: &Api, key: &str, path: &str, body: Value, auth: Auth) -> Result<(Answer, u32)> {
    let request = Request::post(path, body)
        .auth(auth)
        .header("idempotency-key", key)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match api.send(&request).await {
            // it may have arrived: repeated under its key, it is done once
            Err(failure) if may_have_arrived(&failure) && attempt < BALANCE_ATTEMPTS_MAX => {
                tell(&failure.to_string());
            }
            Ok(answer) if is_for_now(&answer) && attempt < BALANCE_ATTEMPTS_MAX => {}
            other => return Ok((other?, attempt)),
        }
        tokio::time::sleep(std::time::Duration::from_secs(1 << attempt)).await;
    }
}

fn is_for_now(answer: &Answer) -> bool {
    answer.status.as_u16() == 503 || answer.failure().code.as_deref() == Some(KEY_IN_USE)
}

fn may_have_arrived(failure: &Failure) -> bool {
    failure.kind == Kind::Unreachable && failure.code.as_deref() != Some(NOT_SENT)
}
