//! `rent`, `rentals`, `show`, `stop`, `extend` and `resume`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use shared::{
    id::RentalId,
    money::{Asset, Money},
    secret::Secret,
};

use super::{account, auth_for, market};
use crate::{
    api::{Api, Auth, NOT_SENT, Request},
    args::{Extend, Payment, Rent},
    failure::{Failure, Kind, Result},
    key_file,
    output::{self, Column, Form, list_of, money, number, tell, text},
    payment, random,
    units::{show_bytes, show_cpu},
    wait,
};

/// Most rentals that are listed.
const LISTED_MAX: usize = 1_000;
/// How often an order that is paid from the balance is repeated under its key.
const BALANCE_ATTEMPTS_MAX: u32 = 5;

const COLUMNS: [Column; 7] = [
    ("RENTAL", |r| text(r, "/id")),
    ("STATE", |r| text(r, "/state")),
    ("REASON", |r| text(r, "/reason")),
    ("RAM", |r| number(r, "/resources/ram_bytes", show_bytes)),
    ("CPU", |r| number(r, "/resources/cpu_millis", show_cpu)),
    ("COST SO FAR", |r| money(r, "/cost_so_far")),
    ("PAID UNTIL", |r| text(r, "/paid_until")),
];

const FIELDS: [Column; 18] = [
    ("rental", |r| text(r, "/id")),
    ("state", |r| text(r, "/state")),
    ("reason", |r| text(r, "/reason")),
    ("detail", |r| text(r, "/state_reason")),
    ("node", |r| text(r, "/node_id")),
    ("RAM", |r| number(r, "/resources/ram_bytes", show_bytes)),
    ("CPU", |r| number(r, "/resources/cpu_millis", show_cpu)),
    ("GPUs", |r| list_of(r, "/gpus")),
    ("disk", |r| number(r, "/resources/disk_bytes", show_bytes)),
    ("image", |r| text(r, "/image_digest")),
    ("price per hour", |r| money(r, "/price/per_hour")),
    ("paid", |r| money(r, "/paid")),
    ("balance", |r| text(r, "/balance_currency")),
    ("cost so far", |r| money(r, "/cost_so_far")),
    ("started", |r| text(r, "/started_at")),
    ("paid until", |r| text(r, "/paid_until")),
    ("ended", |r| text(r, "/ended_at")),
    ("refunded", |r| money(r, "/refunded")),
];

/// Rents, pays and waits.
pub(super) async fn rent(api: &Api, form: Form, rent: &Rent) -> Result<()> {
    let mut body = market::order_body(&rent.order);
    body.insert("image".into(), json!(rent.image));
    if !rent.command.is_empty() {
        body.insert("command".into(), json!(rent.command));
    }
    if !rent.env.is_empty() {
        let env: BTreeMap<_, _> = rent.env.iter().cloned().collect();
        body.insert("env".into(), json!(env));
    }
    if let (Some(username), Some(file)) = (&rent.registry_user, &rent.registry_password_file) {
        let password = account::first_line(file, "password")?;
        let auth = json!({"username": username, "password": password.expose()});
        body.insert("registry_auth".into(), auth);
    }
    if let Some(most) = rent.max_spend {
        let most = Money {
            amount: most,
            currency: Asset::USDC,
        };
        body.insert("max_spend".into(), json!(most));
    }
    if rent.auto_extend {
        body.insert("auto_extend".into(), json!(true));
    }
    let rental = buy(
        api,
        "/api/v1/rentals".into(),
        body,
        &rent.payment,
        Auth::Account,
    )
    .await?;
    let id = text(&rental, "/id");
    tell(&format!("rented {id}"));
    if rent.no_wait {
        return output::one(form, &rental, &FIELDS);
    }
    let auth = auth_for(api, &id)?;
    let mut running = wait::until_running(api, &auth, &id, rent.wait_timeout).await?;
    // only the answer to the payment has the token: a program may want to hand it on
    running["rental_token"] = rental["rental_token"].clone();
    output::one(form, &running, &FIELDS)
}

/// Lists the account's rentals and those whose tokens are here.
pub(super) async fn list(api: &Api, form: Form) -> Result<()> {
    let mut rentals = if api.is_somebody()? {
        market::pages(api, &Request::get("/api/v1/rentals"), LISTED_MAX).await?
    } else {
        Vec::new()
    };
    for (id, token) in api.local.rental_tokens()? {
        if rentals.iter().any(|rental| text(rental, "/id") == id) {
            continue;
        }
        let request =
            Request::get(format!("/api/v1/rentals/{id}")).auth(Auth::Token(Secret::new(token)));
        match api.send(&request).await?.ok() {
            Ok(rental) => rentals.push(rental),
            // forgotten by the market, or its token was replaced
            Err(failure) if matches!(failure.kind, Kind::NotFound | Kind::Auth) => {
                tell(&format!("{id}: {failure}"));
            }
            Err(failure) => return Err(failure),
        }
    }
    output::list(form, &rentals, &COLUMNS)
}

/// Shows one.
pub(super) async fn show(api: &Api, form: Form, id: RentalId) -> Result<()> {
    let id = id.to_string();
    let request = Request::get(format!("/api/v1/rentals/{id}")).auth(auth_for(api, &id)?);
    output::one(form, &api.send(&request).await?.ok()?, &FIELDS)
}

/// Stops one.
pub(super) async fn stop(api: &Api, form: Form, id: RentalId) -> Result<()> {
    let id = id.to_string();
    let path = format!("/api/v1/rentals/{id}/stop");
    let body = Map::new();
    let rental = send_keyed(api, &path, body, auth_for(api, &id)?).await?;
    output::one(form, &rental, &FIELDS)
}

/// Pays for more time.
pub(super) async fn extend(api: &Api, form: Form, extend: &Extend) -> Result<()> {
    let id = extend.rental.to_string();
    let mut body = Map::new();
    body.insert("duration_seconds".into(), json!(extend.duration));
    let path = format!("/api/v1/rentals/{id}/extend");
    let auth = auth_for(api, &id)?;
    let rental = buy(api, path, body, &extend.payment, auth).await?;
    output::one(form, &rental, &FIELDS)
}

/// Repeats the payments whose outcome isn't known.
pub(super) async fn resume(api: &Api, form: Form) -> Result<()> {
    let mut served = Vec::new();
    let mut failed = None;
    for (nonce, unfinished) in api.local.unfinished()? {
        tell(&format!(
            "asking about {} for {}",
            unfinished.amount, unfinished.path
        ));
        let auth = match unfinished
            .path
            .split('/')
            .find(|part| part.starts_with("rnt_"))
        {
            Some(id) => auth_for(api, id)?,
            None => Auth::Account,
        };
        match payment::finish(api, &nonce, &unfinished, &auth).await {
            Ok(rental) => served.push(rental),
            Err(failure) => {
                tell(&failure.to_string());
                failed = Some(failure);
            }
        }
    }
    output::list(form, &served, &COLUMNS)?;
    failed.map_or(Ok(()), Err)
}

async fn buy(
    api: &Api,
    path: String,
    mut body: Map<String, Value>,
    how: &Payment,
    auth: Auth,
) -> Result<Value> {
    let with = if how.balance { "balance" } else { "x402" };
    body.insert("pay_with".into(), json!(with));
    if how.balance {
        if let Some(currency) = how.currency {
            body.insert("currency".into(), json!(currency));
        }
        if !api.is_somebody()? {
            let hint = "a balance belongs to an account: run `ramarket login` first, or name an API key with --api-key-file";
            return Err(Failure::new(Kind::Auth, hint));
        }
        return send_keyed(api, &path, body, Auth::Account).await;
    }
    let file = how.key_file.clone();
    let key = key_file::load(&file.unwrap_or_else(|| api.local.default_key_file()))?;
    let order = payment::Order {
        path,
        body: body.into(),
        auth,
    };
    let limit = Money {
        amount: how.max_price,
        currency: how.currency.unwrap_or(Asset::USDC),
    };
    payment::order(api, &order, &key, &limit).await
}

/// Sends an order under one idempotency key until it is answered.
async fn send_keyed(api: &Api, path: &str, body: Map<String, Value>, auth: Auth) -> Result<Value> {
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
