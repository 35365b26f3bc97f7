//! Signing in by password, and by a code where a second factor is in force.
//!
//! # Invariants
//! - What fails, fails alike: whether the account exists, has a password or was meant can't be told from the answer.
//! - A password alone begins no session where a second factor is in force.

use std::sync::Arc;

use shared::secret::Secret;

use super::{
    Login, SignedIn, account_with_hash, begin_session, find_account,
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
    /// The client's address.
    pub address: Caller,
    /// What it says of itself.
    pub device: Device,
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
    app.limits.count(Action::SignIn, asker.address, now_ms)?;
    let meant = Caller::Email(email.as_str().to_owned());
    app.limits.count(Action::Login, meant, now_ms)?;
    let password = model::new_password(password).map_err(|_| failed())?;
    let found = app
        .db
        .read("auth.account", move |tx| find_account(tx, &email))
        .await?;
    let known = found.as_ref().map(|(_, hash)| hash.as_str());
    let holds = app.auth.passwords.verify(password.clone(), known).await?;
    let Some((account, hash)) = found.as_ref().filter(|_| holds) else {
        let meant = found.map(|(account, _)| account.id);
        let note = move |tx: &mut dyn Tx| note_failure(tx, &ctx, meant);
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
    app.limits.count(Action::SignIn, asker.address, now_ms)?;
    let user = SecondFactors::challenged_user(challenge)?;
    let found = app
        .db
        .read("auth.challenged", move |tx| account_with_hash(tx, user))
        .await;
    let (account, hash) = found.map_err(|error| match error.kind() {
        Kind::NotFound => second_factor::challenge_refused(),
        _ => error,
    })?;
    if !app.auth.second_factors.holds(&ctx, challenge, &hash) {
        return Err(second_factor::challenge_refused());
    }
    session::count_login(app, &account)?;
    let login = Login::new(&app.config, &account.roles, asker.device)?;
    let state = Arc::clone(app);
    let signed_in = app
        .db
        .write("auth.login_totp", move |tx| {
            let factors = &state.auth.second_factors;
            if factors.accepts(tx, &ctx, account.id, code.expose())? {
                begin_session(tx, &ctx, &account, &login).map(Some)
            } else {
                note_failure(tx, &ctx, Some(account.id))?;
                Ok(None)
            }
        })
        .await?;
    signed_in.ok_or_else(second_factor::code_refused)
}

/// Notes a login that was refused; `account` is the one that was meant, if there is one. Takes as long either way.
///
/// # Errors
/// What the database says.
pub fn note_failure(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    account: Option<shared::id::UserId>,
) -> Result<()> {
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
