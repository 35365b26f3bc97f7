//! Typed identifiers: one registry, one text form (`rnt_` + 32 hex digits of a UUID version 7).
//!
//! # Invariants
//! - An id of one kind can't be used as another: each is its own type, and its prefix is checked when parsed.
//! - Ids are minted only by [`Ids`], so that tests can make them predictable.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text isn't an id of the wanted kind.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a valid id: expected `{prefix}_` and 32 hexadecimal digits")]
pub struct ParseIdError {
    prefix: &'static str,
}

/// Mints UUIDs: random and time-ordered in production, counted in tests.
#[derive(Debug)]
pub enum Ids {
    /// UUID version 7 from the system's clock and random source.
    System,
    /// Predictable: 1, 2, 3, …
    Counting(AtomicU64),
}

impl Ids {
    /// Predictable ids for tests.
    #[must_use]
    pub fn counting() -> Self {
        Self::Counting(AtomicU64::new(1))
    }

    /// The next id of the wanted kind.
    pub fn mint<T: Minted>(&self) -> T {
        let uuid = match self {
            #[expect(clippy::disallowed_methods, reason = "the one source of ids")]
            Self::System => Uuid::now_v7(),
            Self::Counting(next) => {
                Uuid::from_u128(u128::from(next.fetch_add(1, Ordering::Relaxed)))
            }
        };
        T::from(uuid)
    }
}

/// A kind of id that [`Ids`] can mint.
pub trait Minted: From<Uuid> {}

macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// The kind's prefix in text form.
            pub const PREFIX: &'static str = $prefix;
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl Minted for $name {}

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or(ParseIdError { prefix: $prefix })
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    )+};
}

typed_ids! {
    /// A key by which a program acts for an account.
    ApiKeyId = "key";
    /// One event on its way to one webhook.
    DeliveryId = "dlv";
    /// A report of a rental that an administrator decides on.
    DisputeId = "dsp";
    /// A set of event rows' position-independent identity.
    EventId = "evt";
    /// A submission of somebody's proof of identity.
    KycCaseId = "kyc";
    /// A document of such a submission.
    KycDocumentId = "doc";
    /// An account elsewhere that opens one here.
    IdentityId = "idn";
    /// An invoice or a credit note.
    InvoiceId = "inv";
    /// A rental's lease of a node's capacity; changes when a rental is placed anew.
    LeaseId = "lea";
    /// A mail to somebody.
    MailId = "mai";
    /// A machine that a provider enrolled.
    NodeId = "nod";
    /// A priced slice of a node.
    OfferId = "ofr";
    /// One payment, by x402 or by balance.
    PaymentId = "pay";
    /// Money on its way out of the market.
    PayoutId = "out";
    /// A priced order that is valid for a few minutes.
    QuoteId = "quo";
    /// A rented container.
    RentalId = "rnt";
    /// A login session: the family of its refresh tokens.
    SessionId = "ses";
    /// A public key by which an account opens its rentals over SSH.
    SshKeyId = "ssk";
    /// A ledger transfer.
    TransferId = "trf";
    /// An endpoint that is told of events.
    WebhookId = "whk";
    /// An account of a person.
    UserId = "usr";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses_other_kinds() {
        let ids = Ids::counting();
        let node: NodeId = ids.mint();
        let text = node.to_string();
        assert_eq!(text, "nod_00000000000000000000000000000001");
        assert_eq!(text.parse::<NodeId>(), Ok(node));
        assert!(text.parse::<RentalId>().is_err());
        assert!(text.to_uppercase().parse::<NodeId>().is_err());
        assert!("nod_1".parse::<NodeId>().is_err());
    }
}
