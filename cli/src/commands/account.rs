//! What belongs to the account: the API key that a command is given, `balance`, `topup`, `invoices`, `events`.

use std::{ops::ControlFlow, path::Path};

use serde_json::{Map, Value, json};
use shared::{money::Money, secret::Secret};

use super::{Desk, buy, market};
use crate::{
    api::{Api, Auth, Request},
    args::account::{Events, Invoices, TopUp},
    failure::{Failure, Result},
    output::{self, Column, Form, money, text},
    private_file, sse,
};

const KEY_VARIABLE: &str = "RAMARKET_API_KEY";
/// Most events of a rental that are listed.
const LISTED_MAX: usize = 10_000;

/// The API key that this command is given: the file's, else the variable's.
///
/// # Errors
/// There is no such file, others can read it, or it is empty.
pub(super) fn given_key(file: Option<&Path>) -> Result<Option<Secret<String>>> {
    if let Some(file) = file {
        return private_file::first_line(file, "API key").map(Some);
    }
    // not a flag: everybody on the machine can read those
    let Some(key) = std::env::var_os(KEY_VARIABLE) else {
        return Ok(None);
    };
    let key = key
        .into_string()
        .map_err(|_| Failure::usage(format!("{KEY_VARIABLE} holds no text")))?;
    let key = key.trim();
    Ok((!key.is_empty()).then(|| Secret::new(key.to_owned())))
}

const BALANCES: [Column; 7] = [
    ("CURRENCY", |b| text(b, "/currency")),
    ("AVAILABLE", |b| money(b, "/available")),
    ("HELD", |b| money(b, "/held")),
    ("PENDING", |b| money(b, "/pending")),
    ("EARNED", |b| money(b, "/earned")),
    ("PER HOUR", |b| money(b, "/burn_rate_per_hour")),
    ("HOURS LEFT", |b| text(b, "/hours_left")),
];

/// What the account holds: a line for each currency, since they are never one sum.
pub(super) async fn balance(api: &Api, form: Form) -> Result<()> {
    let answer = api.send(&Request::get("/api/v1/balance")).await?.ok()?;
    show_balances(form, &answer)
}

fn show_balances(form: Form, answer: &Value) -> Result<()> {
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    match form {
        // it has no ids: its currencies stand for them
        Form::Ids => {
            let codes = items.iter().map(|item| text(item, "/currency"));
            output::lines(&codes.collect::<Vec<_>>())
        }
        Form::Json | Form::Text => output::list(form, &items, &BALANCES),
    }
}

/// Fills the balance: from the wallet, or with play money.
pub(super) async fn top_up(desk: &Desk, top_up: &TopUp) -> Result<()> {
    let api = &desk.api;
    if !api.is_somebody()? {
        return Err(Failure::new(
            crate::failure::Kind::Auth,
            "a balance belongs to an account: run `ramarket login` first",
        ));
    }
    if top_up.payment.balance {
        return Err(Failure::usage("a balance isn't filled from a balance"));
    }
    let payer = buy::payer(desk, &top_up.payment);
    let amount = Money {
        amount: top_up.amount,
        currency: payer.currency,
    };
    let mut body = Map::new();
    body.insert("amount".into(), json!(amount));
    let path = "/api/v1/balance/topups";
    let answer = if top_up.sandbox {
        body.insert("source".into(), json!("sandbox"));
        buy::send_keyed(api, path, body, Auth::Account).await?
    } else {
        let order = crate::payment::Order {
            path: path.to_owned(),
            body: body.into(),
            auth: Auth::Account,
        };
        crate::payment::order(api, &order, &payer)
            .await
            .map_err(Failure::from)?
            .answer
    };
    show_balances(desk.form, &answer)
}

const INVOICES: [Column; 6] = [
    ("INVOICE", |i| text(i, "/id")),
    ("NUMBER", |i| text(i, "/number")),
    ("KIND", |i| text(i, "/kind")),
    ("RENTAL", |i| text(i, "/rental_id")),
    ("TOTAL", |i| money(i, "/total")),
    ("ISSUED", |i| text(i, "/issued_at")),
];

/// Lists invoices and credit notes, newest first.
pub(super) async fn invoices(desk: &Desk, wanted: &Invoices) -> Result<()> {
    let limit = usize::try_from(wanted.limit).unwrap_or(20);
    let items = market::pages(&desk.api, &Request::get("/api/v1/invoices"), limit).await?;
    output::list(desk.form, &items, &INVOICES)
}

const EVENTS: [Column; 4] = [
    ("AT", |e| text(e, "/at")),
    ("KIND", |e| text(e, "/kind")),
    ("RENTAL", |e| text(e, "/rental_id")),
    ("FACTS", |e| {
        e.get("payload").map(Value::to_string).unwrap_or_default()
    }),
];

/// Lists what happened to a rental, or follows what happens.
pub(super) async fn events(desk: &Desk, wanted: &Events) -> Result<()> {
    let id = wanted.rental.map(|id| id.to_string());
    let auth = match &id {
        Some(id) => desk.auth_for(id)?,
        None => Auth::Account,
    };
    if let Some(id) = &id {
        let request = Request::get(format!("/api/v1/rentals/{id}/events")).auth(auth.clone());
        let before = market::pages(&desk.api, &request, LISTED_MAX).await?;
        match desk.form {
            Form::Json if wanted.follow => before.iter().try_for_each(output::json_line)?,
            _ => output::list(desk.form, &before, &EVENTS)?,
        }
    }
    if !wanted.follow {
        return match id {
            Some(_) => Ok(()),
            None => Err(Failure::usage("name a rental, or --follow everything")),
        };
    }
    let request = Request::get("/api/v1/events").auth(auth);
    let mut take = |event: &sse::Event| {
        let about = event.data.get("rental_id").and_then(Value::as_str);
        if id.is_none() || about == id.as_deref() {
            show_event(desk.form, &event.data)?;
        }
        Ok(ControlFlow::Continue(()))
    };
    sse::follow(&desk.api, &request, &mut take).await
}

fn show_event(form: Form, event: &Value) -> Result<()> {
    match form {
        Form::Json => output::json_line(event),
        Form::Ids => output::lines(&[text(event, "/id")]),
        Form::Text => {
            let cells = EVENTS.iter().map(|(_, cell)| cell(event));
            output::lines(&[cells.collect::<Vec<_>>().join("  ")])
        }
    }
}
