//! `rent`, `rentals`, `show`, `stop`, `extend` and `resume`.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use shared::{
    id::RentalId,
    money::{Asset, Money},
    secret::Secret,
};

use super::{
    Desk,
    buy::{buy, finish_keyed, send_keyed},
    market, usage,
};
use crate::{
    api::{Auth, Request},
    args::{
        account::Show,
        market::{Extend, Rent},
    },
    failure::{Kind, Result},
    output::{self, Column, Form, list_of, money, number, tell, text},
    payment, private_file,
    units::{show_bytes, show_cpu, show_ms},
    wait,
};

/// Most rentals that are listed.
const LISTED_MAX: usize = 1_000;

const COLUMNS: [Column; 7] = [
    ("RENTAL", |r| text(r, "/id")),
    ("STATE", |r| text(r, "/state")),
    ("REASON", |r| text(r, "/reason")),
    ("RAM", |r| number(r, "/resources/ram_bytes", show_bytes)),
    ("CPU", |r| number(r, "/resources/cpu_millis", show_cpu)),
    ("COST SO FAR", |r| money(r, "/cost_so_far")),
    ("PAID UNTIL", |r| text(r, "/paid_until")),
];

const FIELDS: [Column; 22] = [
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
    ("billed", |r| number(r, "/billed_ms", show_ms)),
    ("CPU now", |r| number(r, "/usage_now/cpu_millis", show_cpu)),
    ("RAM now", |r| number(r, "/usage_now/ram_bytes", show_bytes)),
    ("disk now", |r| {
        number(r, "/usage_now/disk_bytes", show_bytes)
    }),
    ("started", |r| text(r, "/started_at")),
    ("paid until", |r| text(r, "/paid_until")),
    ("ended", |r| text(r, "/ended_at")),
    ("refunded", |r| money(r, "/refunded")),
];

/// Rents, pays and waits.
pub(super) async fn rent(desk: &Desk, rent: &Rent) -> Result<()> {
    let path = "/api/v1/rentals".to_owned();
    let body = rent_body(rent)?;
    let rental = buy(desk, path, body, &rent.payment, Auth::Account).await?;
    let id = text(&rental, "/id");
    tell(&format!("rented {id}"));
    if rent.no_wait {
        return output::one(desk.form, &rental, &FIELDS);
    }
    let auth = desk.auth_for(&id)?;
    let mut running = wait::until_running(&desk.api, &auth, &id, rent.wait_timeout).await?;
    // only the answer to the payment has the token: a program may want to hand it on
    running["rental_token"] = rental["rental_token"].clone();
    output::one(desk.form, &running, &FIELDS)?;
    if desk.form == Form::Text {
        tell_how_to_connect(&running);
    }
    Ok(())
}

/// What reaches a rental, as far as its market offers it.
fn tell_how_to_connect(rental: &Value) {
    let id = text(rental, "/id");
    tell("it runs:");
    tell(&format!("  ramarket exec -it {id}              a shell"));
    tell(&format!(
        "  ramarket logs -f {id}               what it writes"
    ));
    tell(&format!(
        "  ramarket port-forward {id} PORT     a port of it, here"
    ));
    if let Some(command) = rental
        .pointer("/connect/ssh/command")
        .and_then(Value::as_str)
    {
        let fingerprint = text(rental, "/connect/ssh/fingerprint");
        tell(&format!(
            "  ramarket ssh {id}                   or, with a key of your account:"
        ));
        tell(&format!("  {command}   (host key {fingerprint})"));
    }
    tell(&format!(
        "  ramarket stop {id}                  ends it; what isn't used comes back"
    ));
}

/// What is wanted, as the market takes it.
fn rent_body(rent: &Rent) -> Result<Map<String, Value>> {
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
        let password = private_file::first_line(file, "password")?;
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
    Ok(body)
}

/// Lists the account's rentals and those whose tokens are here.
pub(super) async fn list(desk: &Desk) -> Result<()> {
    output::list(desk.form, &all(desk).await?, &COLUMNS)
}

/// The account's rentals and those whose tokens are here.
pub(super) async fn all(desk: &Desk) -> Result<Vec<Value>> {
    let api = &desk.api;
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
    Ok(rentals)
}

/// Shows one, or watches it until it has ended.
pub(super) async fn show(desk: &Desk, show: &Show) -> Result<()> {
    let id = show.rental.to_string();
    let request = Request::get(format!("/api/v1/rentals/{id}")).auth(desk.auth_for(&id)?);
    let every = Duration::from_secs(u64::try_from(show.every).unwrap_or(2));
    loop {
        let mut rental = desk.api.send(&request).await?.ok()?;
        usage::add(desk, &id, &mut rental).await;
        match desk.form {
            Form::Json if show.watch => output::json_line(&rental)?,
            _ => output::one(desk.form, &rental, &FIELDS)?,
        }
        let over = rental["settled_at"].is_string();
        if !show.watch || over {
            return Ok(());
        }
        if desk.form == Form::Text {
            output::lines(&[String::new()])?;
        }
        tokio::time::sleep(every).await;
    }
}

/// Stops one.
pub(super) async fn stop(desk: &Desk, id: RentalId) -> Result<()> {
    let rental = end(desk, &id.to_string()).await?;
    output::one(desk.form, &rental, &FIELDS)
}

/// Stops a rental; as it is then.
pub(super) async fn end(desk: &Desk, id: &str) -> Result<Value> {
    let path = format!("/api/v1/rentals/{id}/stop");
    send_keyed(&desk.api, &path, Map::new(), desk.auth_for(id)?).await
}

/// Pays for more time.
pub(super) async fn extend(desk: &Desk, extend: &Extend) -> Result<()> {
    let id = extend.rental.to_string();
    let mut body = Map::new();
    body.insert("duration_seconds".into(), json!(extend.duration));
    let path = format!("/api/v1/rentals/{id}/extend");
    let auth = desk.auth_for(&id)?;
    let rental = buy(desk, path, body, &extend.payment, auth).await?;
    output::one(desk.form, &rental, &FIELDS)
}

/// Repeats the orders whose outcome isn't known.
pub(super) async fn resume(desk: &Desk) -> Result<()> {
    let api = &desk.api;
    let mut served = Vec::new();
    let mut failed = None;
    for (key, order) in api.local.keyed()? {
        tell(&format!("asking about an order for {}", order.path));
        match finish_keyed(api, &key, &order, false).await {
            Ok(rental) => served.push(rental),
            Err(unbought) => {
                tell(&unbought.failure.to_string());
                failed = Some(unbought.failure);
            }
        }
    }
    for (nonce, unfinished) in api.local.unfinished()? {
        tell(&format!(
            "asking about {} for {}",
            unfinished.amount, unfinished.path
        ));
        let mut parts = unfinished.path.split('/');
        let auth = match parts.find(|part| part.starts_with("rnt_")) {
            Some(id) => desk.auth_for(id)?,
            None => Auth::Account,
        };
        match payment::finish(api, &desk.spending, &nonce, &unfinished, &auth).await {
            Ok(rental) => served.push(rental),
            Err(unbought) => {
                tell(&unbought.failure.to_string());
                failed = Some(unbought.failure);
            }
        }
    }
    output::list(desk.form, &served, &COLUMNS)?;
    failed.map_or(Ok(()), Err)
}
