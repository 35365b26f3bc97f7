//! Paying as the market itself: an authorization under a nonce of the payer's choice, in the form that facilitators take.
//!
//! # Invariants
//! - The same key, terms, nonce and time give the same payload, byte for byte: facilitators tell a repeat by its signature.
//! - Another time under the same nonce is another payload of which the token's contract takes at most one.

use serde_json::{Value, json};

use super::{
    authorization::{Authorization, ExactPayload},
    signature::{PayerKey, SignatureError},
    terms::Terms,
    wire_v2,
};

/// Signs a transfer by `terms` that holds from now on until `valid_before_s`, seconds since the Unix epoch; a payload of version 2.
///
/// # Errors
/// The key can't sign this digest.
pub fn transfer(
    key: &PayerKey,
    terms: &Terms,
    nonce: [u8; 32],
    valid_before_s: i64,
) -> Result<Value, SignatureError> {
    let natural = |number: i64| u128::try_from(number).unwrap_or(0);
    let authorization = Authorization {
        from: key.address(),
        to: terms.pay_to,
        value: natural(terms.amount.atomic()),
        valid_after: 0,
        valid_before: natural(valid_before_s),
        nonce,
    };
    let digest = authorization.digest(terms.network.chain_id, &terms.asset);
    Ok(json!(wire_v2::PaymentPayload {
        x402_version: wire_v2::VERSION,
        payload: json!(ExactPayload::new(&authorization, &key.sign(&digest)?)),
        resource: Some(json!(wire_v2::ResourceInfo {
            url: terms.resource.url.clone(),
            description: Some(terms.resource.description.clone()),
            mime_type: Some(terms.resource.mime_type.clone()),
            service_name: None,
            tags: None,
        })),
        accepted: terms.requirements_v2(),
        extensions: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        money::Amount,
        time::Timestamp,
        x402::{
            exact,
            network::{BASE_SEPOLIA, BASE_SEPOLIA_USDC},
            payment::PresentedPayment,
            terms::Resource,
        },
    };

    #[test]
    fn what_we_sign_is_taken_by_our_own_checks() {
        let key = PayerKey::from_bytes(&[7; 32]).expect("a key");
        let terms = Terms {
            network: &BASE_SEPOLIA,
            asset: BASE_SEPOLIA_USDC,
            pay_to: PayerKey::from_bytes(&[8; 32]).expect("a key").address(),
            amount: Amount::from_atomic(1_234_567).expect("positive"),
            max_timeout_s: 600,
            resource: Resource {
                url: "https://market.example/api/v1/payouts/out_1".to_owned(),
                description: "a payout".to_owned(),
                mime_type: "application/json".to_owned(),
            },
        };
        let payload = transfer(&key, &terms, [9; 32], 1_800_000_600).expect("signed");
        assert_eq!(
            payload,
            transfer(&key, &terms, [9; 32], 1_800_000_600).expect("signed")
        );
        let presented = PresentedPayment::from_json(payload).expect("readable");
        let now = Timestamp::from_secs(1_800_000_000);
        let checked = exact::check_to_settle(&terms, &presented, now).expect("satisfies the terms");
        assert_eq!(checked.identity.payer, key.address());
        assert_eq!(checked.identity.nonce, [9; 32]);
        let later = Timestamp::from_secs(1_800_000_595);
        assert!(exact::check_to_settle(&terms, &presented, later).is_err());
        let again = transfer(&key, &terms, [9; 32], 1_800_000_601).expect("signed");
        let again = PresentedPayment::from_json(again).expect("readable");
        let identity = again.identity().expect("known");
        assert_eq!(identity.nonce, checked.identity.nonce);
        assert_ne!(identity.payload_sha256, checked.identity.payload_sha256);
    }
}
