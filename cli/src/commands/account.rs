//! `login` and `logout`, and the API key that a command is given.

use std::{
    io::{BufRead as _, Read as _},
    path::Path,
};

use reqwest::StatusCode;
use serde_json::json;
use shared::secret::Secret;

use crate::{
    api::{Answer, Api, Auth, Request},
    args::Login,
    failure::{Failure, Kind, Result},
    output::{self, Column, Form, money, tell, text},
    private_file,
};

/// Longest first line of a file or of standard input that holds a secret.
const SECRET_BYTES_MAX: u64 = 4096;
const KEY_VARIABLE: &str = "RAMARKET_API_KEY";

/// The API key that this command is given: the file's, else the variable's.
///
/// # Errors
/// There is no such file, others can read it, or it is empty.
pub(super) fn given_key(file: Option<&Path>) -> Result<Option<Secret<String>>> {
    if let Some(file) = file {
        return first_line(file, "API key").map(Some);
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

/// Signs in and remembers it: by password, or by the API key that was given.
pub(super) async fn login(api: &Api, login: &Login) -> Result<()> {
    if let (Some(email), Some(file)) = (&login.email, &login.password_file) {
        let password = first_line(file, "password")?;
        let session = api.login(email, password.expose()).await?;
        tell(&format!("signed in as {}", session.email));
        return Ok(());
    }
    match api.given_key() {
        Some(key) => remember_key(api, key).await,
        None => Err(Failure::usage(
            "name --email and --password-file, or --api-key-file",
        )),
    }
}

/// Remembers an API key that the market knows.
async fn remember_key(api: &Api, key: &Secret<String>) -> Result<()> {
    let asked = Request::get("/api/v1/auth/me").auth(Auth::Token(key.clone()));
    let answer = api.send(&asked).await?;
    // a key without the scope account:read holds as well
    if answer.status != StatusCode::FORBIDDEN {
        answer.ok()?;
    }
    api.local.set_api_key(key.expose())?;
    tell("the API key is kept for this market");
    Ok(())
}

/// Signs out; forgets the sign-in even if the market can't be told. A key that was kept is forgotten, and goes on holding.
pub(super) async fn logout(api: &Api) -> Result<()> {
    if api.local.api_key()?.is_some() {
        api.local.set_session(None)?;
        tell("the API key is forgotten here; to end it, revoke it in the account");
        return Ok(());
    }
    let Some(session) = api.local.session()? else {
        tell("nobody is signed in");
        return Ok(());
    };
    let body = json!({"refresh_token": session.refresh_token});
    let request = Request::post("/api/v1/auth/logout", body).auth(Auth::Anonymous);
    let told = api.send(&request).await.and_then(Answer::ok);
    api.local.set_session(None)?;
    match told {
        // there was nothing left to end
        Err(failure) if failure.kind == Kind::Auth => Ok(()),
        other => other.map(drop),
    }
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

/// The first line of a private file, or of standard input for `-`.
pub(super) fn first_line(file: &Path, what: &str) -> Result<Secret<String>> {
    let text = if file == Path::new("-") {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .take(SECRET_BYTES_MAX)
            .read_line(&mut line)
            .map_err(|error| Failure::usage(format!("standard input can't be read: {error}")))?;
        line
    } else {
        private_file::read(file)?
            .ok_or_else(|| Failure::usage(format!("there is no file {}", file.display())))?
    };
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line.to_owned())),
        _ => Err(Failure::usage(format!("the {what} is empty"))),
    }
}
