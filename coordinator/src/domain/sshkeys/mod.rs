//! SSH keys: those of an account, which open whatever it rents, and those of a single rental.
//!
//! # Invariants
//! - Only public keys are kept, each in the one text that it has; (account, fingerprint) and (rental, fingerprint) are unique.
//! - An account's keys are changed by a person who has just proven who they are: a key opens all that runs.
//! - A rental's keys are replaced as a whole, by whoever rents it.

pub mod api;
pub mod model;
mod store;
#[cfg(test)]
mod tests;

use shared::{
    id::{RentalId, SshKeyId, UserId},
    time::Timestamp,
};

use self::model::{KEYS_MAX, Opener, PublicKey, StoredKey, Wish};
use super::audit::{self, Entry};
use crate::{
    context::OpCtx,
    error::{Error, Result},
    store::Tx,
};

/// The last use is noted at most so often.
pub const NOTED_MS: i64 = 60_000;

/// Adds a key to the caller's account.
///
/// # Errors
/// 403 for API keys; 409 with too many keys, or if it is there already.
pub fn create(tx: &mut dyn Tx, ctx: &OpCtx, wish: &Wish) -> Result<StoredKey> {
    let user = ctx.signed_in()?.id;
    let there = store::of_user(tx, user, KEYS_MAX)?;
    if there.iter().any(|key| key.key.text() == wish.key.text()) {
        return Err(Error::conflict(
            "ssh_key_exists",
            "your account has this key already",
        ));
    }
    if i64::try_from(there.len()).is_ok_and(|count| count >= KEYS_MAX) {
        return Err(Error::conflict(
            "too_many_ssh_keys",
            format!("an account has at most {KEYS_MAX} SSH keys: remove one that isn't used"),
        ));
    }
    let key = StoredKey {
        id: ctx.mint(),
        user,
        name: wish.name.clone(),
        key: wish.key.clone(),
        created: ctx.now,
        last_used: None,
    };
    store::insert(tx, &key)?;
    let state = serde_json::json!({"name": key.name, "fingerprint": key.key.fingerprint()});
    audit::record(tx, ctx, Entry::of("ssh_key.added", key.id).after(state))?;
    Ok(key)
}

/// The caller's keys, oldest first.
///
/// # Errors
/// 403 for API keys.
pub fn list(tx: &mut dyn Tx, ctx: &OpCtx) -> Result<Vec<StoredKey>> {
    store::of_user(tx, ctx.signed_in()?.id, KEYS_MAX)
}

/// Removes a key of the caller's.
///
/// # Errors
/// 404 for what isn't theirs.
pub fn remove(tx: &mut dyn Tx, ctx: &OpCtx, id: SshKeyId) -> Result<()> {
    let user = ctx.signed_in()?.id;
    let removed = store::remove(tx, user, id)?.ok_or_else(|| Error::not_found("SSH key"))?;
    let state = serde_json::json!({"name": removed.name, "fingerprint": removed.key.fingerprint()});
    audit::record(tx, ctx, Entry::of("ssh_key.removed", id).before(state))
}

/// Gives a new rental its own keys.
///
/// # Errors
/// The database's.
pub fn give_to_rental(tx: &mut dyn Tx, rental: RentalId, keys: &[PublicKey]) -> Result<()> {
    store::give_to_rental(tx, rental, keys)
}

/// A rental's own keys. Whether the caller may see it is asked before.
///
/// # Errors
/// The database's.
pub fn of_rental(tx: &mut dyn Tx, rental: RentalId) -> Result<Vec<PublicKey>> {
    store::of_rental(tx, rental)
}

/// Replaces a rental's own keys. Whether the caller may is asked before.
///
/// # Errors
/// The database's.
pub fn replace_of_rental(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    rental: RentalId,
    keys: &[PublicKey],
) -> Result<()> {
    let names = |keys: &[PublicKey]| -> Vec<String> {
        keys.iter()
            .map(|key| key.fingerprint().to_owned())
            .collect()
    };
    let before = store::of_rental(tx, rental)?;
    if before == keys {
        return Ok(());
    }
    store::take_from_rental(tx, rental)?;
    store::give_to_rental(tx, rental, keys)?;
    let entry = Entry::of("rental.ssh_keys_replaced", rental)
        .before(serde_json::json!({"fingerprints": names(&before)}))
        .after(serde_json::json!({"fingerprints": names(keys)}));
    audit::record(tx, ctx, entry)
}

/// By whose key, if by any, a rental of `owner`'s is opened with `key`.
///
/// # Errors
/// The database's.
pub fn opener(
    tx: &mut dyn Tx,
    rental: RentalId,
    owner: Option<UserId>,
    key: &PublicKey,
) -> Result<Option<Opener>> {
    let own = store::rental_key_by_fingerprint(tx, rental, key.fingerprint())?;
    if own.is_some_and(|own| own.text() == key.text()) {
        return Ok(Some(Opener::Rental));
    }
    let Some(owner) = owner else { return Ok(None) };
    let theirs = store::by_fingerprint(tx, owner, key.fingerprint())?;
    let theirs = theirs.filter(|stored| stored.key.text() == key.text());
    Ok(theirs.map(|stored| Opener::Account(stored.id)))
}

/// Notes that a key opened a rental, at most once in [`NOTED_MS`].
///
/// # Errors
/// The database's.
pub fn note_use(tx: &mut dyn Tx, id: SshKeyId, now: Timestamp) -> Result<()> {
    store::note_use(tx, id, now, now.plus_ms(-NOTED_MS))
}
