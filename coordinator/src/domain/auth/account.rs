//! Changes of who may sign in: passwords and e-mail addresses.
//!
//! # Invariants
//! - A new password ends every other session, and links to reset it; its owner is told by mail.
//! - An address is taken as verified only when a link that was sent there was used.

use std::sync::Arc;

use serde_json::json;
use shared::id::{SessionId, UserId};

use super::{
    account_with_hash, delays, letters,
    links::{self, LinkToken, Purpose},
    model::{self, Account, Email},
    session, store,
};
use crate::{
    app::App,
    context::OpCtx,
    domain::{
        audit::{self, Entry},
        mail::{self, Postbox},
    },
    error::{Error, Result},
    limits::{Action, Caller},
    store::Tx,
};

/// Sends a link that shows that the account's address works.
///
/// # Errors
/// What the database says.
pub fn ask_to_verify(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    account: &Account,
    token: &LinkToken,
) -> Result<()> {
    let email = account.address()?;
    send_link(
        tx,
        ctx,
        postbox,
        Purpose::VerifyEmail,
        (account.id, email),
        token,
    )
}

fn send_link(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    purpose: Purpose,
    (user, email): (UserId, Email),
    token: &LinkToken,
) -> Result<()> {
    links::issue(tx, ctx, purpose, user, &email, token)?;
    let letter = letters::link(purpose, email, &postbox.public_url, token.text(), ctx);
    mail::queue(tx, ctx, postbox, &letter)?;
    Ok(())
}

/// Uses a link that was sent to the account's address: it works.
///
/// # Errors
/// 422 when the link doesn't hold, or the account has another address by now.
pub fn verify(tx: &mut dyn Tx, ctx: &OpCtx, token: &LinkToken) -> Result<()> {
    let link = links::redeem(tx, ctx, Purpose::VerifyEmail, token)?;
    if !store::verify_email(tx, link.user, &link.email, ctx.now)? {
        return Err(links::refused());
    }
    audit::record(tx, ctx, Entry::of("email.verified", link.user))
}

/// Notes that somebody whom we trust in this says that the account's address is its owner's; does nothing if we know, or if it
/// is another address.
///
/// # Errors
/// What the database says.
pub fn heard_verified(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    account: &Account,
    email: Option<&Email>,
) -> Result<()> {
    let is_news = email.is_some_and(|email| email.as_str() == account.email);
    if !is_news || account.verified.is_some() {
        return Ok(());
    }
    if store::verify_email(tx, account.id, &account.email, ctx.now)? {
        let entry = Entry::of("email.verified", account.id);
        audit::record(tx, ctx, entry.reason("the identity provider says so"))?;
    }
    Ok(())
}

/// Tells the owner of an account by mail of a change that they should know of.
///
/// # Errors
/// What the database says.
pub fn tell(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    account: &Account,
    subject: &'static str,
    what: &str,
) -> Result<()> {
    let notice = letters::notice(account, ctx, subject, what)?;
    mail::queue(tx, ctx, postbox, &notice)?;
    Ok(())
}

/// Closes or opens an account; whether that changed anything. The caller records it, and ends its sessions.
///
/// # Errors
/// What the database says.
pub fn set_disabled(tx: &mut dyn Tx, ctx: &OpCtx, id: UserId, disabled: bool) -> Result<bool> {
    store::set_disabled(tx, id, disabled.then_some(ctx.now))
}

/// Sends a link to the wanted address and a notice to the one of now. Nothing is sent to an address that has an account;
/// the caller isn't told.
///
/// # Errors
/// 403 without a fresh proof of who they are.
pub fn ask_to_change_email(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    wanted: &Email,
    token: &LinkToken,
) -> Result<()> {
    session::require_fresh(ctx)?;
    let account = super::account(tx, ctx.signed_in()?.id)?;
    let what = "Somebody asked to use another e-mail address for your account at RAMarket.\n\
                It changes when the link that we sent there is opened.";
    let subject = "Your e-mail address is about to change";
    tell(tx, ctx, postbox, &account, subject, what)?;
    if store::user_by_email(tx, wanted)?.is_none() {
        let to = (account.id, wanted.clone());
        send_link(tx, ctx, postbox, Purpose::ChangeEmail, to, token)?;
    }
    audit::record(tx, ctx, Entry::of("email.change_requested", account.id))
}

/// Uses a link that was sent to a new address: the account has it from now on.
///
/// # Errors
/// 422 when the link doesn't hold; 409 when another account took the address meanwhile.
pub fn change_email(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    token: &LinkToken,
) -> Result<()> {
    let link = links::redeem(tx, ctx, Purpose::ChangeEmail, token)?;
    let account = super::account(tx, link.user)?;
    let email = Email::parse(&link.email)?;
    if store::user_by_email(tx, &email)?.is_some() {
        return Err(super::email_taken());
    }
    store::set_email(tx, account.id, &email, ctx.now)?;
    for purpose in [Purpose::VerifyEmail, Purpose::ResetPassword] {
        store::links::forget(tx, account.id, purpose)?;
    }
    let what =
        "Your account at RAMarket has another e-mail address now; this one isn't used any more.";
    let subject = "Your e-mail address was changed";
    tell(tx, ctx, postbox, &account, subject, what)?;
    let entry = Entry::of("email.changed", account.id);
    let entry = entry.before(json!({ "email": account.email }));
    audit::record(tx, ctx, entry.after(json!({ "email": email.as_str() })))
}

/// Sends a link to set a new password, if the address has an account; who asks isn't told, and doesn't wait for it.
///
/// # Errors
/// 422 when it is no address; 429 when it was asked for too often.
pub fn forgotten(app: &Arc<App>, ctx: OpCtx, address: Caller, email: &str) -> Result<()> {
    let email = Email::parse(email)?;
    let now_ms = app.clock.boot_ms();
    app.limits.count(Action::SignIn, address, now_ms)?;
    let to = Caller::Email(email.as_str().to_owned());
    app.limits.count(Action::Mail, to, now_ms)?;
    let token = LinkToken::random()?;
    let state = Arc::clone(app);
    app.background.spawn(async move {
        let postbox = Arc::clone(&state.postbox);
        let body = move |tx: &mut dyn Tx| forgot(tx, &ctx, &postbox, &email, &token);
        if let Err(error) = state.db.write("auth.forgot", body).await {
            tracing::error!(%error, "a forgotten password was asked for in vain");
        }
    });
    Ok(())
}

fn forgot(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    email: &Email,
    token: &LinkToken,
) -> Result<()> {
    let Some((account, _)) = store::user_by_email(tx, email)? else {
        return Ok(());
    };
    let to = (account.id, email.clone());
    send_link(tx, ctx, postbox, Purpose::ResetPassword, to, token)?;
    audit::record(tx, ctx, Entry::of("password.reset_requested", account.id))
}

/// Sets a new password by a link. Who can read the account's mail has shown that the address works.
///
/// # Errors
/// 422 when the link doesn't hold or the password is too easy; 503 when too many hash.
pub async fn reset_password(
    app: &App,
    ctx: OpCtx,
    token: LinkToken,
    password: String,
) -> Result<()> {
    // the link stays good for another try
    let password = model::chosen_password("/password", password, None)?;
    let hash = app.auth.passwords.hash(password).await?;
    let postbox = Arc::clone(&app.postbox);
    let ended = app
        .db
        .write("auth.reset_password", move |tx| {
            let link = links::redeem(tx, &ctx, Purpose::ResetPassword, &token)?;
            if !store::verify_email(tx, link.user, &link.email, ctx.now)? {
                return Err(links::refused());
            }
            let (account, old) = account_with_hash(tx, link.user)?;
            let ended = replace_password(tx, &ctx, &account, (&old, &hash), None)?;
            tell_of_password(tx, &ctx, &postbox, &account)?;
            audit::record(tx, &ctx, Entry::of("password.reset", account.id))?;
            Ok(ended)
        })
        .await?;
    app.auth.live.forget_all(&ended);
    Ok(())
}

/// Sets a new password for who is signed in and knows the old one; other sessions end.
///
/// # Errors
/// 403 when the old one is wrong; 409 when it was changed meanwhile; 422 when the new one is too easy.
pub async fn change_password(
    app: &Arc<App>,
    ctx: OpCtx,
    current: String,
    new: String,
) -> Result<()> {
    let user = ctx.signed_in()?.clone();
    let (account, old) = session::prove_password(app, &ctx, user.id, current).await?;
    let new = model::chosen_password("/new_password", new, Some(&account.email))?;
    let hash = app.auth.passwords.hash(new).await?;
    let postbox = Arc::clone(&app.postbox);
    let ended = app
        .db
        .write("auth.change_password", move |tx| {
            let keep = Some(user.session);
            let ended = replace_password(tx, &ctx, &account, (&old, &hash), keep)?;
            session::prove(tx, &ctx, user.session)?;
            tell_of_password(tx, &ctx, &postbox, &account)?;
            audit::record(tx, &ctx, Entry::of("password.changed", account.id))?;
            Ok(ended)
        })
        .await?;
    app.auth.live.forget_all(&ended);
    app.auth.live.forget(user.session);
    Ok(())
}

fn replace_password(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    account: &Account,
    (old, new): (&str, &str),
    keep: Option<SessionId>,
) -> Result<Vec<SessionId>> {
    if !store::replace_hash(tx, account.id, old, new)? {
        return Err(Error::conflict(
            "password_changed",
            "the password was changed by somebody else at this moment; sign in again",
        ));
    }
    delays::forgive(tx, &account.email)?;
    store::links::forget(tx, account.id, Purpose::ResetPassword)?;
    store::sessions::revoke_others(tx, account.id, keep, ctx.now)
}

fn tell_of_password(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    postbox: &Postbox,
    account: &Account,
) -> Result<()> {
    let what =
        "The password of your account at RAMarket was changed, and other sessions were ended.";
    let subject = "Your password was changed";
    tell(tx, ctx, postbox, account, subject, what)
}
/// Administrators told of what is urgent at most.
const ADMINISTRATORS_MAX: i64 = 50;

/// The addresses of administrators, for what they must hear of.
///
/// # Errors
/// What the database says; a row that isn't an address.
pub fn administrators(tx: &mut dyn Tx) -> Result<Vec<Email>> {
    let found = store::administrators(tx, ADMINISTRATORS_MAX)?;
    found
        .iter()
        .map(|text| Email::parse(text).map_err(|_| Error::corrupt("users", text, "email")))
        .collect()
}
