//! x402 version 1 on the wire: what older clients read from a 402's body and send in `X-PAYMENT`.
//! Receipts have the shape of [`super::wire_v2::SettleResponse`], with the network's version 1 name.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire_v2::Object;

/// `x402Version` of these messages.
pub const VERSION: i64 = 1;

/// The body of a 402.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequired {
    /// 1.
    pub x402_version: i64,
    /// Why the request isn't served yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The ways to pay.
    pub accepts: Vec<PaymentRequirements>,
}

/// One way to pay. `outputSchema` is never sent: a client in use fails on its `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequirements {
    /// `exact`.
    pub scheme: String,
    /// `base-sepolia`, …
    pub network: String,
    /// Atomic units, decimal.
    pub max_amount_required: String,
    /// The token's address.
    pub asset: String,
    /// Who is paid.
    pub pay_to: String,
    /// Absolute URL of what is paid for.
    pub resource: String,
    /// What is paid for, in words.
    pub description: String,
    /// Of the answer.
    pub mime_type: String,
    /// How long the payer lets the payment be valid.
    pub max_timeout_seconds: i64,
    /// For `exact`: `name` and `version` of the token's EIP-712 domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Object>,
}

/// A payment as a client sends it: it doesn't say which terms it accepts, only scheme and network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPayload {
    /// 1.
    pub x402_version: i64,
    /// `exact`.
    pub scheme: String,
    /// `base-sepolia`, …
    pub network: String,
    /// What the scheme needs.
    pub payload: Value,
}
