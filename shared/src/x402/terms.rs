//! What we ask for, and its forms on the wire: one 402 carries both versions, v2 in a header and v1 in the body.
//!
//! # Invariants
//! - Both forms say the same: same amount, payee, token and time.

use serde_json::{Value, json};

use super::{
    SCHEME_EXACT,
    address::Address,
    header,
    network::{Network, Token},
    wire_v1, wire_v2,
};
use crate::money::Amount;

/// Who sells, as directories of what can be bought show it.
const SERVICE_NAME: &str = "RAMarket";
/// What is sold, in their words.
const TAGS: [&str; 3] = ["compute", "memory", "containers"];

/// What is paid for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Absolute URL, made from the configured public one.
    pub url: String,
    /// In words.
    pub description: String,
    /// Of the answer.
    pub mime_type: String,
}

/// The terms of one payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Where to pay.
    pub network: &'static Network,
    /// With what.
    pub asset: Token,
    /// Whom.
    pub pay_to: Address,
    /// How much: atomic units, more than zero.
    pub amount: Amount,
    /// How long the client lets its payment be valid, seconds.
    pub max_timeout_s: i64,
    /// What for.
    pub resource: Resource,
}

impl Terms {
    /// As an entry of version 2's `accepts`.
    #[must_use]
    pub fn requirements_v2(&self) -> wire_v2::PaymentRequirements {
        wire_v2::PaymentRequirements {
            scheme: SCHEME_EXACT.to_owned(),
            network: self.network.caip2.to_owned(),
            amount: self.amount.atomic().to_string(),
            asset: self.asset.address.to_string(),
            pay_to: self.pay_to.to_string(),
            max_timeout_seconds: self.max_timeout_s,
            extra: Some(self.extra()),
        }
    }

    /// As an entry of version 1's `accepts`.
    #[must_use]
    pub fn requirements_v1(&self) -> wire_v1::PaymentRequirements {
        wire_v1::PaymentRequirements {
            scheme: SCHEME_EXACT.to_owned(),
            network: self.network.v1_name.to_owned(),
            max_amount_required: self.amount.atomic().to_string(),
            asset: self.asset.address.to_string(),
            pay_to: self.pay_to.to_string(),
            resource: self.resource.url.clone(),
            description: self.resource.description.clone(),
            mime_type: self.resource.mime_type.clone(),
            max_timeout_seconds: self.max_timeout_s,
            extra: Some(self.extra()),
        }
    }

    /// Value of the header `PAYMENT-REQUIRED`; `extensions` may be empty.
    #[must_use]
    pub fn header_v2(&self, error: &str, extensions: &wire_v2::Object) -> String {
        header::encode(&wire_v2::PaymentRequired {
            x402_version: wire_v2::VERSION,
            error: Some(error.to_owned()),
            resource: wire_v2::ResourceInfo {
                url: self.resource.url.clone(),
                description: Some(self.resource.description.clone()),
                mime_type: Some(self.resource.mime_type.clone()),
                service_name: Some(SERVICE_NAME.to_owned()),
                tags: Some(TAGS.map(str::to_owned).to_vec()),
            },
            accepts: vec![self.requirements_v2()],
            extensions: (!extensions.is_empty()).then(|| extensions.clone()),
        })
    }

    /// The 402's body: version 1's terms. More members may be added to the object.
    #[must_use]
    pub fn body_v1(&self, error: &str) -> Value {
        json!(wire_v1::PaymentRequired {
            x402_version: wire_v1::VERSION,
            error: Some(error.to_owned()),
            accepts: vec![self.requirements_v1()],
        })
    }

    fn extra(&self) -> wire_v2::Object {
        [
            ("name".to_owned(), self.asset.eip712_name.into()),
            ("version".to_owned(), self.asset.eip712_version.into()),
        ]
        .into_iter()
        .collect()
    }
}
