//! Idempotency keys of requests that don't pay by x402: the key is written in the transaction that does the work.
//!
//! # Invariants
//! - The same key with the same request does nothing again and finds what it did; with another request it is refused.
//! - Keys belong to their caller: two accounts never meet.

use http::HeaderMap;
use ring::digest;
use shared::time::Timestamp;

use super::store;
use crate::{
    context::OpCtx,
    error::{Error, Kind, Result},
    store::Tx,
};

/// The header that carries it.
pub const HEADER: &str = "idempotency-key";
const KEY_CHARS_MAX: usize = 128;

/// A key as a caller sent it, with the request it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    scope: String,
    key: String,
    request_sha256: [u8; 32],
}

impl IdempotencyKey {
    /// Reads `Idempotency-Key` of a request that does `action`, for the signed-in person who sent it.
    ///
    /// # Errors
    /// 401 for anybody else, 400 if it is missing, there twice, or too long.
    pub fn read(headers: &HeaderMap, ctx: &OpCtx, action: &str, body: &[u8]) -> Result<Self> {
        let caller = ctx.user()?.id;
        let mut values = headers.get_all(HEADER).iter();
        let first = values.next();
        if values.next().is_some() {
            return Err(Error::bad_request(
                "idempotency_key_invalid",
                "send one Idempotency-Key",
            ));
        }
        let key = first
            .map(|value| value.to_str().unwrap_or("\0").trim())
            .filter(|key| !key.is_empty())
            .ok_or_else(|| {
                Error::bad_request(
                    "idempotency_key_missing",
                    "send an Idempotency-Key header: any text that is new for a new order",
                )
            })?;
        if key.len() > KEY_CHARS_MAX || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::bad_request(
                "idempotency_key_invalid",
                "at most 128 printable characters without spaces",
            ));
        }
        let mut request_sha256 = [0; 32];
        request_sha256.copy_from_slice(digest::digest(&digest::SHA256, body).as_ref());
        Ok(Self {
            scope: format!("{caller}:{action}"),
            key: key.to_owned(),
            request_sha256,
        })
    }

    /// A text that stands for the key in the ledger.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}:{}", self.scope, self.key)
    }
}

/// What an earlier request with this key made, if there was one.
///
/// # Errors
/// 422 if that was another request.
pub fn find(tx: &mut dyn Tx, key: &IdempotencyKey) -> Result<Option<String>> {
    match store::keys::key(tx, &key.scope, &key.key)? {
        None => Ok(None),
        Some((hash, resource)) if hash == key.request_sha256 => Ok(Some(resource)),
        Some(_) => Err(Error::new(
            Kind::Invalid,
            "idempotency_key_reused",
            "this Idempotency-Key was used for another request: use a new one",
        )),
    }
}

/// Remembers what this request makes.
///
/// # Errors
/// 409 if the same key is being used at this very moment: repeat it, and the answer is there.
pub fn remember(tx: &mut dyn Tx, ctx: &OpCtx, key: &IdempotencyKey, resource: &str) -> Result<()> {
    if store::keys::insert_key(
        tx,
        &key.scope,
        &key.key,
        &key.request_sha256,
        resource,
        ctx.now,
    )? {
        Ok(())
    } else {
        Err(Error::conflict(
            "idempotency_key_in_use",
            "a request with this key is running: repeat it in a moment",
        )
        .retry_after_s(1))
    }
}

/// Forgets up to `limit` keys from before a moment; how many. Whoever repeats a request later than that isn't recognised, but what a
/// key moved in the books stays there under it: it isn't moved twice.
///
/// # Errors
/// The database's.
pub fn forget(tx: &mut dyn Tx, before: Timestamp, limit: i64) -> Result<u64> {
    store::keys::forget_keys(tx, before, limit)
}
