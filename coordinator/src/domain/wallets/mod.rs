//! Wallets that say who they are (`sign-in-with-x`): payers without an account come back to what they paid for.
//!
//! # Invariants
//! - A challenge holds a nonce of ours, recognised by any coordinator that shares the secret; nothing is kept until it is used.
//! - A nonce is used once, whichever coordinator it is shown to: using it is a row, written before its bearer is believed.
//! - A wallet is no account: it sees and steers what was paid by it without one, and nothing else.

pub mod api;
pub mod model;
mod store;
#[cfg(test)]
mod tests;

use shared::{
    time::Timestamp,
    x402::{
        address::Address,
        network,
        sign_in::{Claim, Site, VALID_FOR_MS},
    },
};

use super::payments::extensions::SignIn;
use crate::{
    app::App,
    error::{Error, Result},
    store::{Db, Tx},
};

/// Who we are for wallets.
#[must_use]
pub fn site(app: &App) -> Site {
    Site {
        origin: app.purchases.public_url.clone(),
    }
}

/// The wallet that signed the header's claim; its nonce is used up.
///
/// # Errors
/// 401 `wallet_signature` if it doesn't hold, `wallet_nonce` if its nonce isn't ours, is old, or was used.
pub async fn authenticate(app: &App, header: &[u8]) -> Result<Address> {
    let now = app.clock.now();
    let refused = |why: String| Error::unauthenticated("wallet_signature", why);
    let claim = Claim::from_header(header).map_err(|doubt| refused(doubt.to_string()))?;
    let wallet = site(app)
        .check(&claim, now)
        .map_err(|doubt| refused(doubt.to_string()))?;
    let known = network::by_caip2(&claim.chain_id);
    if known.is_none() {
        return Err(refused(
            "the wallet's chain isn't one that is paid on here".to_owned(),
        ));
    }
    let nonce = claim.challenge.nonce;
    let age_ms = app.wallet_nonces.issued(&nonce).map(|at| now.ms_since(at));
    if !age_ms.is_some_and(|age_ms| (0..=VALID_FOR_MS).contains(&age_ms)) {
        return Err(nonce_refused());
    }
    let taken = app
        .db
        .write("wallet.use_nonce", move |tx| store::take(tx, &nonce, now));
    if taken.await? {
        Ok(wallet)
    } else {
        Err(nonce_refused())
    }
}

fn nonce_refused() -> Error {
    Error::unauthenticated(
        "wallet_nonce",
        "the challenge isn't ours, is older than 5 min, or was used: ask for a new one at GET /api/v1/auth/wallet/challenge",
    )
}

/// A challenge for the wallets that can pay here.
///
/// # Errors
/// The system has no random numbers.
pub fn challenge<'a>(app: &App, site: &'a Site, chains: Vec<&'a str>) -> Result<SignIn<'a>> {
    let now = app.clock.now();
    Ok(SignIn {
        site,
        chains,
        nonce: app.wallet_nonces.mint(now)?,
        now,
    })
}

/// Most rows that one transaction removes.
const BATCH: i64 = 500;

/// Forgets used nonces that are too old to be shown again, up to a bound; how many.
///
/// # Errors
/// The database's.
pub async fn forget(db: &Db, now: Timestamp) -> Result<u64> {
    let before = now.plus_ms(-2 * VALID_FOR_MS);
    let body = move |tx: &mut dyn Tx| store::forget(tx, before, BATCH);
    let mut gone = 0_u64;
    for _ in 0..100 {
        let some = db.write("wallet.forget_nonces", body).await?;
        gone = gone.saturating_add(some);
        if i64::try_from(some).is_ok_and(|some| some < BATCH) {
            break;
        }
    }
    Ok(gone)
}
