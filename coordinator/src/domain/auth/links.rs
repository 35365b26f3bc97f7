//! One-time links that arrive by mail.
//!
//! # Invariants
//! - A link's token has 256 random bits, is stored as its SHA-256, and is gone once it was used: of several who use it, one does.
//! - It is bound to a purpose, to an account and to the address that it was sent to; a newer one replaces it.

use shared::{id::UserId, secret::Secret, time::Timestamp};

use super::{model::Email, store, token};
use crate::{
    context::OpCtx,
    error::{Error, Kind, Result},
    store::Tx,
};

/// What a link is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Shows that mail to the account's address arrives.
    VerifyEmail,
    /// Gives the account the address that the link was sent to.
    ChangeEmail,
    /// Sets a new password.
    ResetPassword,
}

impl Purpose {
    /// Its name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ChangeEmail => "change_email",
            Self::ResetPassword => "reset_password",
        }
    }

    /// For so long it works, milliseconds.
    #[must_use]
    pub const fn life_ms(self) -> i64 {
        match self {
            Self::VerifyEmail | Self::ChangeEmail => 60 * 60_000,
            Self::ResetPassword => 30 * 60_000,
        }
    }

    /// The page that it opens.
    #[must_use]
    pub const fn page(self) -> &'static str {
        match self {
            Self::VerifyEmail => "/account/verify-email",
            Self::ChangeEmail => "/account/change-email",
            Self::ResetPassword => "/account/reset-password",
        }
    }
}

/// A link's token in clear.
#[derive(Debug, Clone)]
pub struct LinkToken(Secret<String>);

impl LinkToken {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self> {
        token::random_text().map(Self)
    }

    /// From a caller.
    ///
    /// # Errors
    /// 422 when it can't be one of ours.
    pub fn parse(text: &str) -> Result<Self> {
        if token::is_random_text(text) {
            Ok(Self(Secret::new(text.to_owned())))
        } else {
            Err(refused())
        }
    }

    pub(super) const fn text(&self) -> &Secret<String> {
        &self.0
    }
}

/// A link that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Whose account.
    pub user: UserId,
    /// Where it was sent.
    pub email: String,
    /// Until when it works.
    pub expires: Timestamp,
}

/// Makes `token` a link of `purpose`, in the place of an older one.
pub(super) fn issue(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    purpose: Purpose,
    user: UserId,
    email: &Email,
    token: &LinkToken,
) -> Result<()> {
    store::links::forget(tx, user, purpose)?;
    let expires = ctx.now.plus_ms(purpose.life_ms());
    let hash = token::hash_of(&token.0);
    store::links::insert(tx, hash, purpose, user, email, ctx.now, expires)
}

/// Uses a link up.
pub(super) fn redeem(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    purpose: Purpose,
    token: &LinkToken,
) -> Result<Link> {
    store::links::take(tx, token::hash_of(&token.0), purpose)?
        .filter(|link| link.expires > ctx.now)
        .ok_or_else(refused)
}

/// 422 for a link that isn't one, or no longer.
#[must_use]
pub fn refused() -> Error {
    Error::new(
        Kind::Invalid,
        "link_invalid",
        "this link was used already, is too old, or was replaced by a newer one: ask for a new one",
    )
}
