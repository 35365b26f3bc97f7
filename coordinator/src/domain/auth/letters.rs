//! What we write to people about their accounts: plain ASCII, so that links arrive whole.

use shared::secret::Secret;

use super::{
    links::Purpose,
    model::{Account, Email},
};
use crate::{context::OpCtx, domain::mail::Mail, error::Result};

/// The link of `purpose`, for whoever reads the mail of `to`.
pub(super) fn link(
    purpose: Purpose,
    to: Email,
    public_url: &str,
    token: &Secret<String>,
    ctx: &OpCtx,
) -> Mail {
    let (subject, asks) = match purpose {
        Purpose::VerifyEmail => (
            "Confirm your e-mail address",
            "Somebody, probably you, uses this address for an account at RAMarket.\n\
             To confirm that it is yours, open",
        ),
        Purpose::ChangeEmail => (
            "Confirm your new e-mail address",
            "Somebody, probably you, wants to use this address for their account at RAMarket.\n\
             To confirm that it is yours, open",
        ),
        Purpose::ResetPassword => (
            "Choose a new password",
            "Somebody, probably you, has forgotten the password of your account at RAMarket.\n\
             To choose a new one, open",
        ),
    };
    let minutes = purpose.life_ms() / 60_000;
    let text = format!(
        "{asks}\n\n{public_url}{}?token={}\n\n\
         The link works once, for {minutes} minutes. If it wasn't you, do nothing.\n",
        purpose.page(),
        token.expose()
    );
    Mail::new(to, subject, text).until(ctx.now.plus_ms(purpose.life_ms()))
}

/// A notice to the owner of an account about a change that they should know of.
pub(super) fn notice(
    account: &Account,
    ctx: &OpCtx,
    subject: &'static str,
    what: &str,
) -> Result<Mail> {
    let to = account.address()?;
    let from = ctx
        .client
        .map_or_else(String::new, |ip| format!(" from {ip}"));
    let text = format!(
        "{what}\n\nThis was at {}{from}.\n\n\
         If it wasn't you: choose a new password at once, which signs out everybody else,\n\
         and look at your account's sessions.\n",
        ctx.now
    );
    Ok(Mail::new(to, subject, text))
}

/// A refresh token was used twice.
pub(super) fn reuse(account: &Account, ctx: &OpCtx) -> Result<Mail> {
    notice(
        account,
        ctx,
        "A session was ended for your safety",
        "A sign-in token of your account at RAMarket was used twice. Somebody else may have a copy,\n\
         so we ended that session. Please sign in again.",
    )
}
