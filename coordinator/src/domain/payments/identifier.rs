//! The extension `payment-identifier`: a client's own name for what it pays, so that a retry that was signed anew pays once.
//!
//! # Invariants
//! - A name belongs to the wallet that pays: another wallet's is another name, and only whoever holds the wallet's key is answered.
//! - The same name for the same thing is the same payment; for another thing it is refused. A payment that came to nothing gives its
//!   name back.

use ring::digest::{Context, SHA256};
use shared::{
    id::PaymentId,
    x402::{exact, payment::PresentedPayment},
};

use super::{
    model::{Payment, PaymentState},
    store,
};
use crate::{
    context::OpCtx,
    error::{Error, Kind, Result},
    store::{StoreError, Tx},
};

/// The extension's name.
pub const EXTENSION: &str = "payment-identifier";
/// Fewest and most characters of a name.
pub const CHARS: std::ops::RangeInclusive<usize> = 16..=128;

/// A client's name for what it pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier {
    payer: String,
    id: String,
    /// Hash of all that the name stands for: what is paid, how, to whom, and for which request.
    fingerprint: [u8; 32],
}

/// What a name stood for before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The same for what it stands for.
    pub fingerprint: Vec<u8>,
    /// The payment that had it.
    pub payment_id: PaymentId,
}

impl Identifier {
    /// The name that a payment carries, if it carries one.
    ///
    /// # Errors
    /// 400 `payment_identifier_invalid`.
    pub fn of(presented: &PresentedPayment, request_sha256: &[u8; 32]) -> Result<Option<Self>> {
        let pointer = format!("/extensions/{EXTENSION}/info/id");
        let Some(value) = presented.verbatim.pointer(&pointer) else {
            return Ok(None);
        };
        if value.is_null() {
            return Ok(None);
        }
        let id = value
            .as_str()
            .filter(|id| {
                CHARS.contains(&id.len())
                    && id
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            })
            .ok_or_else(|| {
                Error::bad_request(
                    "payment_identifier_invalid",
                    "the payment-identifier's id has 16 to 128 characters of A-Z, a-z, 0-9, - and _",
                )
            })?;
        Ok(presented.identity().map(|identity| Self {
            payer: identity.payer.to_string(),
            id: id.to_owned(),
            fingerprint: fingerprint(presented, request_sha256),
        }))
    }
}

fn fingerprint(presented: &PresentedPayment, request_sha256: &[u8; 32]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut part = |bytes: &[u8]| {
        context.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(bytes);
    };
    if let Some(identity) = presented.identity() {
        part(identity.network.caip2.as_bytes());
        part(identity.asset.as_bytes());
    }
    part(presented.authorization.to.as_bytes());
    part(&presented.authorization.value.to_be_bytes());
    part(request_sha256);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The payment that the name stands for, if it stands for one that isn't over without having been paid.
///
/// # Errors
/// 409 `payment_identifier_reused` if it stands for something else; 400 `payment_identifier_invalid` if the payer didn't sign.
pub fn find(
    tx: &mut dyn Tx,
    presented: &PresentedPayment,
    name: &Identifier,
) -> Result<Option<Payment>> {
    let Some(known) = store::identifiers::find(tx, &name.payer, &name.id)? else {
        return Ok(None);
    };
    // anybody can write somebody else's address into a payment
    exact::check_payer(presented)
        .map_err(|reject| Error::bad_request("payment_identifier_invalid", reject.to_string()))?;
    let payment = super::get(tx, known.payment_id)?;
    if is_void(payment.state) {
        return Ok(None);
    }
    if known.fingerprint != name.fingerprint {
        return Err(Error::new(
            Kind::Conflict,
            "payment_identifier_reused",
            "this payment-identifier stands for another payment: use a new one",
        ));
    }
    Ok(Some(payment))
}

/// Gives the name to a payment that is received in this transaction.
///
/// # Errors
/// 503 if somebody else gave it away meanwhile: nothing is lost by trying again.
pub fn give(tx: &mut dyn Tx, ctx: &OpCtx, name: &Identifier, payment: PaymentId) -> Result<()> {
    let (payer, id) = (&name.payer, &name.id);
    if let Some(known) = store::identifiers::find(tx, payer, id)? {
        let before = super::get(tx, known.payment_id)?;
        if is_void(before.state) {
            store::identifiers::free(tx, payer, id, before.id)?;
        }
    }
    if store::identifiers::insert(tx, payer, id, &name.fingerprint, payment, ctx.now)? {
        Ok(())
    } else {
        Err(StoreError::Busy(format!("the payment-identifier {id} was used meanwhile")).into())
    }
}

const fn is_void(state: PaymentState) -> bool {
    matches!(state, PaymentState::Rejected | PaymentState::Expired)
}
