//! Signing in by password, and by a code where a second factor is in force.
//!
//! # Invariants
//! - What fails, fails alike: whether the account exists, has a password or was meant can't be told from the answer.
//! - Each failure counts, and who failed often waits ([`delays`]); only who got in whole is forgiven.
//! - A password alone begins no session where a second factor is in force.

use std::{net::IpAddr, sync::Arc};

use shared::{id::UserId, secret::Secret};

use super::{
    Login, SignedIn, account_with_hash, begin_session,
    delays::{self, Delays, Tried},
    find_account,
    model::{self, Device, Email},
    rehash, second_factor,
    second_factor::SecondFactors,
    session,
};
use crate::{
    app::App,
    context::OpCtx,
    domain::audit::{self, Entry},
    error::{Error, Kind, Result},
    limits::{Action, Caller},
    store::Tx,
};

/// What came of a right password.
#[derive(Debug)]
pub enum Entered {
    /// Signed in.
    In(Box<SignedIn>),
    /// A second factor is in force: this challenge and a code of it are [`by_code`]'s.
    NeedsCode(String),
}

/// Whoever asks to be let in: from where, and with what.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The client's address, or for IPv6 its /64.
    pub address: IpAddr,
    /// What it says of itself.
    pub device: Device,
}

impl Asker {
    const fn tried(&self) -> Tried {
        Tried::Client(self.address)
    }
}

/// Signs in by e-mail address and password.
///
/// # Errors
/// 401 `login_failed`, 429 when it was tried too often, 503 when too many hash.
pub async fn by_password(
    app: &Arc<App>,
    ctx: OpCtx,
    asker: Asker,
    email: &str,
    password: String,
) -> Result<Entered> {
    // what can't be an address or a password fails like a wrong one
    let Ok(email) = Email::parse(email) else {
        return Err(failed());
    };
    let now_ms = app.clock.boot_ms();
    let address = Caller::Address(asker.address);
    app.limits.count(Action::SignIn, address, now_ms)?;
    let meant = Caller::Email(email.as_str().to_owned());
    app.limits.count(Action::Login, meant, now_ms)?;
    let password = model::new_password(password).map_err(|_| failed())?;
    let tried = vec![Tried::Account(email.as_str().to_owned()), asker.tried()];
    let (state, asked, now) = (Arc::clone(app), tried.clone(), ctx.now);
    let found = app
        .db
        .read("auth.account", move |tx| {
            state.auth.delays.check(tx, now, &asked)?;
            find_account(tx, &email)
        })
        .await?;
    let known = found.as_ref().map(|(_, hash)| hash.as_str());
    let holds = app.auth.passwords.verify(password.clone(), known).await?;
    let Some((account, hash)) = found.as_ref().filter(|_| holds) else {
        let meant = found.map(|(account, _)| account.id);
        let state = Arc::clone(app);
        let note = move |tx: &mut dyn Tx| note_failure(tx, &ctx, &state.auth.delays, &tried, meant);
        app.db.write("auth.login_failed", note).await?;
        return Err(failed());
    };
    let (account, old) = (account.clone(), hash.clone());
    let hash = renewed_hash(app, password, &old).await?;
    let login = Login::new(&app.config, &account.roles, asker.device)?;
    let state = Arc::clone(app);
    app.db
        .write("auth.login", move |tx| {
            if hash != old {
                rehash(tx, account.id, &old, &hash)?;
            }
            if account.second_factor {
                let factors = &state.auth.second_factors;
                return Ok(Entered::NeedsCode(
                    factors.challenge(&ctx, account.id, &hash),
                ));
            }
            delays::forgive(tx, &account.email)?;
            let signed_in = begin_session(tx, &ctx, &account, &login)?;
            Ok(Entered::In(Box::new(signed_in)))
        })
        .await
}

/// The hash of a password that was right: a new one if it was made at another cost.
async fn renewed_hash(app: &App, password: Secret<String>, old: &str) -> Result<String> {
    if app.auth.passwords.is_outdated(old) {
        app.auth.passwords.hash(password).await
    } else {
        Ok(old.to_owned())
    }
}

/// Signs in by the code of a second factor, after something else was right.
///
/// # Errors
/// 401 `challenge_invalid` or `code_refused`, 429 when it was tried too often.
pub async fn by_code(
    app: &Arc<App>,
    ctx: OpCtx,
    asker: Asker,
    challenge: &str,
    code: Secret<String>,
) -> Result<SignedIn> {
    let now_ms = app.clock.boot_ms();
    let address = Caller::Address(asker.address);
    app.limits.count(Action::SignIn, address, now_ms)?;
    let user = SecondFactors::challenged_user(challenge)?;
    let (state, client, now) = (Arc::clone(app), asker.tried(), ctx.now);
    let found = app
        .db
        .read("auth.challenged", move |tx| {
            let found = account_with_hash(tx, user)?;
            let tried = [Tried::Account(found.0.email.clone()), client.clone()];
            state.auth.delays.check(tx, now, &tried)?;
            Ok(found)
        })
        .await;
    let (account, hash) = found.map_err(|error| match error.kind() {
        Kind::NotFound => second_factor::challenge_refused(),
        _ => error,
    })?;
    if !app.auth.second_factors.holds(&ctx, challenge, &hash) {
        return Err(second_factor::challenge_refused());
    }
    session::count_login(app, &account)?;
    let tried = [Tried::Account(account.email.clone()), asker.tried()];
    let login = Login::new(&app.config, &account.roles, asker.device)?;
    let state = Arc::clone(app);
    let signed_in = app
        .db
        .write("auth.login_totp", move |tx| {
            let factors = &state.auth.second_factors;
            if factors.accepts(tx, &ctx, account.id, code.expose())? {
                delays::forgive(tx, &account.email)?;
                begin_session(tx, &ctx, &account, &login).map(Some)
            } else {
                note_failure(tx, &ctx, &state.auth.delays, &tried, Some(account.id))?;
                Ok(None)
            }
        })
        .await?;
    signed_in.ok_or_else(second_factor::code_refused)
}

/// Notes an attempt that was refused, and counts it; `account` is the one that was meant, if there is one. Takes as long either
/// way.
///
/// # Errors
/// What the database says.
pub fn note_failure(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    delays: &Delays,
    tried: &[Tried],
    account: Option<UserId>,
) -> Result<()> {
    delays.failed(tx, ctx.now, tried)?;
    let object = account.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    audit::record(tx, ctx, Entry::of("login.failed", object))
}

/// 401: which of the two is wrong isn't said.
#[must_use]
pub fn failed() -> Error {
    Error::unauthenticated(
        "login_failed",
        "the e-mail address or the password is wrong",
    )
}
