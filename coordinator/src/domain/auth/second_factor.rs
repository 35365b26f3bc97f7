//! The second factor: codes of an authenticator app, and recovery codes for who has lost it.
//!
//! # Invariants
//! - The secret is stored sealed under the account's id, recovery codes as SHA-256.
//! - A code works once: the step of the code used last only grows, in the transaction that it opens. So does a recovery code.
//! - Where it is in force, no session begins and no proof counts without it.

use ring::{digest, hmac};
use shared::{
    id::{SessionId, UserId},
    secret::Secret,
};

use super::{
    account,
    model::Account,
    session,
    store::{self, second_factors},
    token, totp,
};
use crate::{
    context::OpCtx,
    domain::{
        audit::{self, Entry},
        mail::Postbox,
    },
    error::{Error, Kind, Result},
    keys::{Sealer, TokenSecret},
    store::Tx,
};

const RECOVERY_CODES: usize = 10;
/// Of a recovery code: 128 bits, so that a plain hash keeps it (ASVS 6.5.2 asks for 112).
const RECOVERY_BYTES: usize = 16;
/// After the password was right, the code may take so long.
const CHALLENGE_MS: i64 = 5 * 60_000;
const CHALLENGE_CHARS_MAX: usize = 256;

/// What second factors are kept and asked for with.
#[derive(Debug)]
pub struct SecondFactors {
    sealer: Sealer,
    challenges: hmac::Key,
}

/// A new secret, shown once.
#[derive(Debug, Clone)]
pub struct NewSecret(Secret<[u8; totp::SECRET_BYTES]>);

impl NewSecret {
    /// A random one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self> {
        token::random().map(|bytes| Self(Secret::new(bytes)))
    }

    /// For its owner: the text to type, and the URL for an app.
    #[must_use]
    pub fn shown(&self, email: &str) -> (String, String) {
        let bytes = self.0.expose();
        (totp::base32(bytes), totp::url(bytes, email))
    }
}

/// New recovery codes, shown once: `ABCD-EFGH-IJKL-MNOP-QRST-UVWX-YZ`.
///
/// # Errors
/// The system has no random numbers.
pub fn recovery_codes() -> Result<Vec<Secret<String>>> {
    (0..RECOVERY_CODES)
        .map(|_| {
            let code = totp::base32(&token::random::<RECOVERY_BYTES>()?);
            let groups: Vec<_> = code
                .as_bytes()
                .chunks(4)
                .map(String::from_utf8_lossy)
                .collect();
            Ok(Secret::new(groups.join("-")))
        })
        .collect()
}

/// What is stored of a recovery code, however it was typed.
fn recovery_hash(code: &str) -> Vec<u8> {
    let plain: String = code
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect::<String>()
        .to_ascii_uppercase();
    let hash = digest::digest(&digest::SHA256, plain.as_bytes());
    hash.as_ref().to_vec()
}

impl SecondFactors {
    /// With keys of their own.
    #[must_use]
    pub fn new(secret: &TokenSecret) -> Self {
        Self {
            sealer: secret.sealer("second factors"),
            challenges: secret.key("ramarket-login-challenge-v1"),
        }
    }

    fn opened(&self, user: UserId, sealed: &[u8]) -> Result<Vec<u8>> {
        let secret = self.sealer.open(&user.to_string(), sealed);
        secret.map_err(Error::internal)
    }

    /// Begins: `secret` is in force once a code of it was shown.
    ///
    /// # Errors
    /// 403 without a fresh proof; 409 when there is one in force.
    pub fn begin(&self, tx: &mut dyn Tx, ctx: &OpCtx, secret: &NewSecret) -> Result<Account> {
        session::require_fresh(ctx)?;
        let account = super::account(tx, ctx.signed_in()?.id)?;
        let sealed = self
            .sealer
            .seal(&account.id.to_string(), secret.0.expose())
            .map_err(Error::internal)?;
        if !second_factors::begin(tx, account.id, sealed, ctx.now)? {
            return Err(Error::conflict(
                "second_factor_set",
                "a second factor is in force: DELETE /api/v1/auth/totp first",
            ));
        }
        Ok(account)
    }

    /// Puts the secret into force, as `code` shows that its owner has it. Other sessions end; which.
    ///
    /// # Errors
    /// 403 when the code is wrong; 404 when none was begun.
    pub fn confirm(
        &self,
        tx: &mut dyn Tx,
        ctx: &OpCtx,
        postbox: &Postbox,
        code: &str,
        recovery: &[Secret<String>],
    ) -> Result<Vec<SessionId>> {
        session::require_fresh(ctx)?;
        let user = ctx.signed_in()?;
        let account = super::account(tx, user.id)?;
        let begun = second_factors::find(tx, user.id)?.filter(|found| !found.in_force);
        let begun = begun.ok_or_else(|| Error::not_found("second factor to confirm"))?;
        let secret = self.opened(user.id, &begun.sealed)?;
        let step = totp::step_of(&secret, code, ctx.now).ok_or_else(session::proof_refused)?;
        second_factors::confirm(tx, user.id, &begun.sealed, step, ctx.now)?;
        for code in recovery {
            second_factors::insert_recovery(tx, user.id, recovery_hash(code.expose()))?;
        }
        session::prove(tx, ctx, user.session)?;
        let ended = store::sessions::revoke_others(tx, user.id, Some(user.session), ctx.now)?;
        let what =
            "A second factor was set for your account at RAMarket; other sessions were ended.";
        let subject = "A second factor was set";
        account::tell(tx, ctx, postbox, &account, subject, what)?;
        audit::record(tx, ctx, Entry::of("second_factor.set", user.id))?;
        Ok(ended)
    }

    /// Whether `code` is one of the app or a recovery code of `user`; it is used up.
    ///
    /// # Errors
    /// What the database says.
    pub fn accepts(&self, tx: &mut dyn Tx, ctx: &OpCtx, user: UserId, code: &str) -> Result<bool> {
        let Some(found) = second_factors::find(tx, user)?.filter(|found| found.in_force) else {
            return Ok(false);
        };
        let code = code.trim();
        if code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit()) {
            let secret = self.opened(user, &found.sealed)?;
            return match totp::step_of(&secret, code, ctx.now) {
                Some(step) => second_factors::use_step(tx, user, step),
                None => Ok(false),
            };
        }
        second_factors::use_recovery(tx, user, recovery_hash(code))
    }

    /// What somebody shows with the code, after their password was right: bound to them and to that password.
    #[must_use]
    pub fn challenge(&self, ctx: &OpCtx, user: UserId, password_hash: &str) -> String {
        let until = ctx.now.plus_ms(CHALLENGE_MS).as_secs();
        let tag = hmac::sign(&self.challenges, &challenged(user, until, password_hash));
        format!("{user}.{until}.{}", hex::encode(tag))
    }

    /// Whose challenge it may be; [`Self::holds`] says whether it is.
    ///
    /// # Errors
    /// 401 when it can't be one.
    pub fn challenged_user(challenge: &str) -> Result<UserId> {
        parts(challenge)
            .map(|(user, _, _)| user)
            .ok_or_else(challenge_refused)
    }

    /// Whether a challenge is ours and in time.
    #[must_use]
    pub fn holds(&self, ctx: &OpCtx, challenge: &str, password_hash: &str) -> bool {
        parts(challenge).is_some_and(|(user, until, tag)| {
            let signed = challenged(user, until, password_hash);
            until > ctx.now.as_secs() && hmac::verify(&self.challenges, &signed, &tag).is_ok()
        })
    }
}

fn challenged(user: UserId, until: i64, password_hash: &str) -> Vec<u8> {
    format!("{user}.{until}.{password_hash}").into_bytes()
}

fn parts(challenge: &str) -> Option<(UserId, i64, Vec<u8>)> {
    if challenge.len() > CHALLENGE_CHARS_MAX {
        return None;
    }
    let (user, rest) = challenge.split_once('.')?;
    let (until, tag) = rest.split_once('.')?;
    Some((
        user.parse().ok()?,
        until.parse().ok()?,
        hex::decode(tag).ok()?,
    ))
}

/// 401 for a challenge that doesn't hold.
#[must_use]
pub fn challenge_refused() -> Error {
    Error::unauthenticated(
        "challenge_invalid",
        "this login took too long: begin it again with the password",
    )
}

/// 401 for a code that is wrong or was used.
#[must_use]
pub fn code_refused() -> Error {
    Error::unauthenticated(
        "code_refused",
        "the code is wrong, or was used already: wait for the next one",
    )
}

/// Removes the second factor of who asks, and its recovery codes.
///
/// # Errors
/// 403 without a fresh proof; 404 when there is none.
pub fn remove(tx: &mut dyn Tx, ctx: &OpCtx, postbox: &Postbox) -> Result<()> {
    session::require_fresh(ctx)?;
    let account = super::account(tx, ctx.signed_in()?.id)?;
    if !second_factors::remove(tx, account.id)? {
        return Err(Error::not_found("second factor"));
    }
    let what = "The second factor of your account at RAMarket was removed.";
    let subject = "Your second factor was removed";
    account::tell(tx, ctx, postbox, &account, subject, what)?;
    audit::record(tx, ctx, Entry::of("second_factor.removed", account.id))
}

/// 403 for a proof without the code that this account needs.
#[must_use]
pub fn code_needed() -> Error {
    Error::new(
        Kind::Forbidden,
        "code_required",
        "this account has a second factor: send a code of it",
    )
}
