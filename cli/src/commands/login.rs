//! `login` and `logout`.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::secret::Secret;
use tokio::time::Instant;

use super::Desk;
use crate::{
    api::{Answer, Api, Auth, Request},
    args::account::Login,
    failure::{Failure, Kind, Result},
    output::{self, Form, tell, text},
    private_file,
};

/// The market says how often to ask; never more often than this.
const INTERVAL_S_MIN: u64 = 1;
const INTERVAL_S_MAX: u64 = 60;
/// How much more slowly to ask when we are told that it is too often.
const SLOWER_S: u64 = 5;
/// The longest that a code is waited for.
const CODE_S: u64 = 3_600;
const NAME_CHARS_MAX: usize = 80;

/// Signs in and remembers it: by password, or by the API key that was given.
pub(super) async fn login(desk: &Desk, login: &Login) -> Result<()> {
    let api = &desk.api;
    if let (Some(email), Some(file)) = (&login.email, &login.password_file) {
        let password = private_file::first_line(file, "password")?;
        let session = api.login(email, password.expose()).await?;
        tell(&format!("signed in as {}", session.email));
        return Ok(());
    }
    match api.given_key() {
        Some(key) => remember_key(api, key).await,
        None => by_browser(desk, login).await,
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
pub(super) async fn logout(desk: &Desk) -> Result<()> {
    let api = &desk.api;
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

/// Shows an address and a code, and waits until somebody confirms there that this machine gets a key.
async fn by_browser(desk: &Desk, login: &Login) -> Result<()> {
    let name = login.name.clone().unwrap_or_else(machine);
    let asked = json!({"client_name": name, "scopes": login.scope, "expires_in_days": login.days});
    let request = Request::post("/api/v1/auth/device", asked).auth(Auth::Anonymous);
    let begun = desk.api.send(&request).await?.ok()?;
    let part = |name: &str| {
        let part = begun.get(name).and_then(Value::as_str);
        part.ok_or_else(|| Failure::failed(format!("the market's answer has no {name}")))
    };
    tell(&format!(
        "open {} and confirm the code {}",
        part("verification_uri_complete")?,
        part("user_code")?
    ));
    let body = json!({"device_code": part("device_code")?});
    let request = Request::post("/api/v1/auth/device/token", body).auth(Auth::Anonymous);
    let mut every_s = begun["interval"].as_u64().unwrap_or(SLOWER_S);
    let holds_s = begun["expires_in"].as_u64().unwrap_or(CODE_S).min(CODE_S);
    let begun = Instant::now();
    loop {
        if begun.elapsed() > Duration::from_secs(holds_s) {
            let why = "nobody confirmed the code while it held: run `ramarket login` again";
            return Err(Failure::new(Kind::Auth, why));
        }
        every_s = every_s.clamp(INTERVAL_S_MIN, INTERVAL_S_MAX);
        tokio::time::sleep(Duration::from_secs(every_s)).await;
        let answer = match desk.api.send(&request).await {
            // the code outlives a lost connection
            Err(failure) if failure.kind == Kind::Unreachable => {
                tell(&failure.to_string());
                every_s += SLOWER_S;
                continue;
            }
            other => other?,
        };
        if answer.status.is_success() {
            return keep(desk, &answer.body);
        }
        let failure = answer.failure();
        match failure.code.as_deref() {
            Some("authorization_pending") => {}
            Some("slow_down") => every_s += SLOWER_S,
            _ if answer.status == StatusCode::TOO_MANY_REQUESTS => every_s += SLOWER_S,
            // it restarts, or something before it says so
            _ if failure.kind == Kind::Unreachable => {
                tell(&failure.to_string());
                every_s += SLOWER_S;
            }
            Some("access_denied" | "expired_token") => {
                return Err(Failure::new(Kind::Auth, failure.to_string()));
            }
            _ => return Err(failure),
        }
    }
}

fn keep(desk: &Desk, answer: &Value) -> Result<()> {
    let key = answer.get("access_token").and_then(Value::as_str);
    let key = key.ok_or_else(|| Failure::failed("the market's answer has no access_token"))?;
    desk.api.local.set_api_key(key)?;
    tell(&format!(
        "signed in until {}: the key is kept for this market",
        text(answer, "/expires_at")
    ));
    if desk.form == Form::Json {
        let shown = json!({"expires_at": answer["expires_at"], "scope": answer["scope"]});
        return output::one(desk.form, &shown, &[]);
    }
    Ok(())
}

/// What a key is called that nobody named.
fn machine() -> String {
    let node = rustix::system::uname();
    let name = node.nodename().to_string_lossy();
    let plain = name.chars().filter(|c| !c.is_control());
    format!(
        "ramarket on {}",
        plain.take(NAME_CHARS_MAX).collect::<String>()
    )
}
