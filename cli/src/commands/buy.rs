//! Orders that cost something: from the wallet within its limits, or from the account's balance.

use serde_json::{Map, Value, json};
use shared::money::Asset;

use super::Desk;
use crate::{
    api::{Api, Auth, NOT_SENT, Request},
    args::market::Payment,
    failure::{Failure, Kind, Result},
    output::tell,
    passphrase::Passphrase,
    payment::{self, Bought, Order, Payer},
    random,
};

/// How often an order that is paid from the balance is repeated under its key.
const BALANCE_ATTEMPTS_MAX: u32 = 5;

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
        return from_balance(&desk.api, &path, body).await;
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
) -> Result<Bought> {
    body.insert("pay_with".into(), json!("x402"));
    let body = body.into();
    payment::order(api, &Order { path, body, auth }, payer).await
}

/// Buys from the balance of whoever is signed in.
pub(super) async fn from_balance(
    api: &Api,
    path: &str,
    mut body: Map<String, Value>,
) -> Result<Value> {
    body.insert("pay_with".into(), json!("balance"));
    if !api.is_somebody()? {
        let hint = "a balance belongs to an account: run `ramarket login` first, or name an API key with --api-key-file";
        return Err(Failure::new(Kind::Auth, hint));
    }
    send_keyed(api, path, body, Auth::Account).await
}

/// Sends an order under one idempotency key until it is answered.
pub(super) async fn send_keyed(
    api: &Api,
    path: &str,
    body: Map<String, Value>,
    auth: Auth,
) -> Result<Value> {
    let key = hex::encode(random::bytes::<16>()?);
    let request = Request::post(path, body.into())
        .auth(auth)
        .header("idempotency-key", &key)?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match api.send(&request).await {
            // it may have arrived: repeated under its key, it is done once
            Err(failure) if may_have_arrived(&failure) && attempt < BALANCE_ATTEMPTS_MAX => {
                tell(&failure.to_string());
            }
            Ok(answer) if answer.status.as_u16() == 503 && attempt < BALANCE_ATTEMPTS_MAX => {}
            other => return other?.ok(),
        }
        tokio::time::sleep(std::time::Duration::from_secs(1 << attempt)).await;
    }
}

fn may_have_arrived(failure: &Failure) -> bool {
    failure.kind == Kind::Unreachable && failure.code.as_deref() != Some(NOT_SENT)
}
