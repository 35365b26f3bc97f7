//! What a facilitator's answer means. Pure.
//!
//! # Invariants
//! - Money counts as moved only if the answer says so, names a transaction, and contradicts nothing that we know.
//! - Money counts as not moved only if it says a reason that is found before anything is sent, and nothing was asked before: after an
//!   unclear answer a refusal may be about the repeat alone.
//! - Reasons aren't uniform between facilitators; one that isn't known is kept as text and decides nothing.

use serde::Deserialize;
use serde_json::Value;
use shared::x402::{
    SCHEME_EXACT,
    address::Address,
    network::Network,
    payment::PresentedPayment,
    wire_v1,
    wire_v2::{self, SettleResponse, VerifyResponse},
};

use crate::domain::payments::ports::{SettleOutcome, SettleRequest, Support, VerifyOutcome};

/// Longest reason that is kept.
const REASON_CHARS_MAX: usize = 100;
const TRANSACTION_CHARS_MAX: usize = 128;

/// What came back.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing: why.
    None(String),
    /// A status, and the body if it is JSON.
    Http { status: u16, json: Option<Value> },
}

impl Answer {
    /// The body as `T`, whatever the status: a refusal comes with 200, 400 or 500, as the facilitator likes.
    fn read<T: for<'de> Deserialize<'de>>(&self) -> Result<T, String> {
        match self {
            Self::None(why) => Err(why.clone()),
            Self::Http { status, json } => json
                .as_ref()
                .and_then(|json| T::deserialize(json).ok())
                .ok_or_else(|| format!("status {status} with an answer that isn't understood")),
        }
    }
}

/// Ends of reasons that are found before anything is sent to a chain, with the prefixes that facilitators put before them cut off.
const FOUND_BEFORE_SENDING: [&str; 27] = [
    "accepted_requirements_mismatch",
    "address_kyt",
    "amount_too_low",
    "asset_mismatch",
    "asset_not_deployed_contract",
    "authorization_value_mismatch",
    "chain_id_mismatch",
    "eip3009_not_supported",
    "insufficient_balance",
    "insufficient_funds",
    "invalid_format",
    "invalid_network",
    "invalid_payload",
    "invalid_payment_amount",
    "invalid_payment_requirements",
    "invalid_scheme",
    "invalid_signature",
    "invalid_x402_version",
    "missing_eip712_domain",
    "network_mismatch",
    "payload_signature",
    "recipient_mismatch",
    "request_blocked_by_location",
    "self_send_not_allowed",
    "token_name_mismatch",
    "token_version_mismatch",
    "unsupported_scheme",
];

fn was_found_before_sending(reason: &str) -> bool {
    FOUND_BEFORE_SENDING
        .iter()
        .any(|known| reason.ends_with(known))
        || reason == "invalid_exact_evm_signature"
}

/// The answer to `/verify`.
pub(super) fn verified(request: &SettleRequest, answer: &Answer) -> VerifyOutcome {
    let unknown = |detail: String| VerifyOutcome::Unknown { detail };
    let said: VerifyResponse = match answer.read() {
        Ok(said) => said,
        Err(why) => return unknown(why),
    };
    let payer = match payer(request) {
        Ok(payer) => payer,
        Err(why) => return unknown(why),
    };
    if !said.is_valid {
        return VerifyOutcome::Invalid {
            reason: reason(said.invalid_reason.as_deref()),
        };
    }
    if names_another(said.payer.as_deref(), &payer) {
        return unknown("it verified another payer's payment".to_owned());
    }
    VerifyOutcome::Valid { payer }
}

/// The answer to `/settle`.
pub(super) fn settled(request: &SettleRequest, answer: &Answer) -> SettleOutcome {
    let unknown = |detail: String| SettleOutcome::Unknown { detail };
    let said: SettleResponse = match answer.read() {
        Ok(said) => said,
        Err(why) => return unknown(why),
    };
    let payer = match payer(request) {
        Ok(payer) => payer,
        Err(why) => return unknown(why),
    };
    if !said.success {
        let reason = reason(said.error_reason.as_deref());
        let sent = !said.transaction.is_empty();
        return if sent || request.asked_before || !was_found_before_sending(&reason) {
            unknown(format!("not settled yet: {reason}"))
        } else {
            SettleOutcome::Refused { reason }
        };
    }
    let network = request.terms.network;
    let elsewhere = !said.network.is_empty()
        && said.network != network.caip2
        && said.network != network.v1_name;
    if elsewhere || names_another(said.payer.as_deref(), &payer) {
        return unknown("it settled another payment".to_owned());
    }
    if !is_transaction(&said.transaction) {
        return unknown("it says settled, but names no transaction".to_owned());
    }
    SettleOutcome::Settled {
        transaction: said.transaction,
        log_index: None,
    }
}

/// The answer to `/supported`.
pub(super) fn supported(network: &Network, answer: &Answer) -> Support {
    #[derive(Deserialize)]
    struct Supported {
        kinds: Vec<Value>,
    }
    let said: Supported = match answer.read() {
        Ok(said) => said,
        Err(why) => return Support::Unknown { detail: why },
    };
    let is_ours = |kind: &Value| {
        let version = kind["x402Version"].as_i64();
        let name = kind["network"].as_str();
        kind["scheme"] == SCHEME_EXACT
            && (version == Some(wire_v2::VERSION) && name == Some(network.caip2)
                || version == Some(wire_v1::VERSION) && name == Some(network.v1_name))
    };
    if said.kinds.iter().any(is_ours) {
        Support::Yes
    } else {
        Support::No
    }
}

/// Who pays, by the payload: its signature is what we verified ourselves.
fn payer(request: &SettleRequest) -> Result<Address, String> {
    PresentedPayment::from_json(request.payload.clone())
        .map(|presented| presented.authorization.from)
        .map_err(|error| error.to_string())
}

/// Facilitators leave the payer out, or say it as an empty text, when they like.
fn names_another(said: Option<&str>, payer: &Address) -> bool {
    said.filter(|said| !said.is_empty())
        .is_some_and(|said| said.parse::<Address>().ok().as_ref() != Some(payer))
}

fn is_transaction(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    !digits.is_empty()
        && text.len() <= TRANSACTION_CHARS_MAX
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn reason(said: Option<&str>) -> String {
    let text = said.filter(|said| !said.is_empty()).unwrap_or("no_reason");
    text.chars()
        .filter(|c| !c.is_control())
        .take(REASON_CHARS_MAX)
        .collect()
}
