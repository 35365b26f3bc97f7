//! The whole way: terms offered, paid, presented, checked; and every tampering noticed under its code.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    address::Address,
    client::{self, Refusal},
    exact::{Reject, VerifiedPayment, check, check_to_settle},
    header,
    network::{BASE, BASE_SEPOLIA, BASE_SEPOLIA_EURC, BASE_SEPOLIA_USDC, BASE_USDC},
    payment::PresentedPayment,
    signature::PayerKey,
    terms::{Resource, Terms},
    wire_v1, wire_v2,
};
use crate::{
    money::{Amount, Asset},
    time::Timestamp,
};

const PAYLOAD: &str = include_str!("testdata/payload_v2.json");
const REQUIRED: &str = include_str!("testdata/payment_required_v2.json");
/// Five minutes before the recorded payload expires, when it was made.
const RECORDED_AT: Timestamp = Timestamp::from_secs(1_795_369_137 - 300);
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn address(text: &str) -> Address {
    text.parse().expect("an address")
}

fn terms() -> Terms {
    Terms {
        network: &BASE_SEPOLIA,
        asset: BASE_SEPOLIA_USDC,
        pay_to: address("0x90F79bf6EB2c4f870365E785982E1f101E93b906"),
        amount: Amount::from_atomic(10_000).expect("positive"),
        max_timeout_s: 300,
        resource: Resource {
            url: "http://127.0.0.1:19547/paid".into(),
            description: "test resource".into(),
            mime_type: "application/json".into(),
        },
    }
}

fn recorded() -> Value {
    serde_json::from_str(PAYLOAD).expect("JSON")
}

fn key() -> PayerKey {
    PayerKey::from_bytes(&[7; 32]).expect("a key")
}

fn paid(terms: &Terms) -> client::SignedPayment {
    let offer = header::decode(terms.header_v2("pay", &Default::default()).as_bytes())
        .expect("our own header");
    client::choose(&offer, terms.amount)
        .and_then(|chosen| chosen.pay(&key(), [9; 32], NOW))
        .expect("payable")
}

fn presented(header_value: &str) -> PresentedPayment {
    PresentedPayment::from_json(header::decode(header_value.as_bytes()).expect("a header"))
        .expect("a payment")
}

fn check_json(json: Value, now: Timestamp) -> Result<VerifiedPayment, Reject> {
    check(
        &terms(),
        &PresentedPayment::from_json(json).expect("readable"),
        now,
    )
}

#[test]
fn the_payment_of_a_stock_client_has_its_known_digest_and_signer() {
    let payment = PresentedPayment::from_json(recorded()).expect("readable");
    let digest = payment
        .authorization
        .digest(BASE_SEPOLIA.chain_id, &BASE_SEPOLIA_USDC);
    assert_eq!(
        hex::encode(digest),
        "13ef2a61048ed71b4fbe9885a17baa785ad9f9912a0cc75c98b592aa16242554"
    );
    let verified = check(&terms(), &payment, RECORDED_AT).expect("satisfies its terms");
    assert_eq!(
        verified.identity.payer.to_string(),
        "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    );
    assert_eq!(verified.identity.network, &BASE_SEPOLIA);
}

#[test]
fn our_terms_are_those_that_the_stock_client_paid() {
    let ours = terms().header_v2("Payment required", &Default::default());
    let mut ours: Value = header::decode(ours.as_bytes()).expect("ours");
    // newer than the recording
    let resource = ours["resource"].as_object_mut().expect("an object");
    assert_eq!(resource.remove("serviceName"), Some(json!("RAMarket")));
    let tags = resource.remove("tags").expect("tags");
    assert!(tags.as_array().is_some_and(|tags| tags.len() <= 5));
    let recorded: Value = serde_json::from_str(REQUIRED).expect("JSON");
    assert_eq!(ours, recorded);
    let body = terms().body_v1("Payment required");
    assert_eq!(
        body,
        json!({"x402Version": 1, "error": "Payment required", "accepts": [{
            "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "10000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "payTo": "0x90F79bf6EB2c4f870365E785982E1f101E93b906",
            "resource": "http://127.0.0.1:19547/paid", "description": "test resource",
            "mimeType": "application/json", "maxTimeoutSeconds": 300,
            "extra": {"name": "USDC", "version": "2"}}]})
    );
}

#[test]
fn our_own_client_pays_our_terms_in_both_versions_as_one_payment() {
    let signed = paid(&terms());
    let v2 = check(&terms(), &presented(&signed.header_v2), NOW).expect("v2 passes");
    let v1 = check(&terms(), &presented(&signed.header_v1), NOW).expect("v1 passes");
    assert_eq!(v2, v1);
    assert_eq!(v2.identity.payer, key().address());
    assert_eq!(
        (
            presented(&signed.header_v2).version(),
            presented(&signed.header_v1).version()
        ),
        (2, 1)
    );
}

#[test]
fn every_tampered_field_is_noticed_under_its_code() {
    let value_code = "invalid_exact_evm_payload_authorization_value_mismatch";
    let signature_code = "invalid_exact_evm_signature";
    let before_code = "invalid_exact_evm_payload_authorization_valid_before";
    let terms_code = "invalid_payment_requirements";
    let other = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
    for (pointer, changed, code) in [
        (
            "/accepted/scheme",
            json!("upto"),
            "invalid_exact_evm_scheme",
        ),
        (
            "/accepted/network",
            json!("eip155:8453"),
            "invalid_exact_evm_network_mismatch",
        ),
        ("/accepted/amount", json!("1"), terms_code),
        ("/accepted/amount", json!("010000"), terms_code),
        ("/accepted/asset", json!(other), terms_code),
        (
            "/accepted/asset",
            json!("0x036cbd53842c5426634e7929541ec2318f3dcf7e"),
            terms_code,
        ),
        ("/accepted/payTo", json!(other), terms_code),
        ("/accepted/maxTimeoutSeconds", json!(301), terms_code),
        ("/accepted/extra", Value::Null, terms_code),
        ("/accepted/extra/name", json!("USD Coin"), terms_code),
        (
            "/payload/authorization/to",
            json!(other),
            "invalid_exact_evm_recipient_mismatch",
        ),
        ("/payload/authorization/value", json!("9999"), value_code),
        ("/payload/authorization/value", json!("10001"), value_code),
        (
            "/payload/authorization/value",
            json!(u128::MAX.to_string()),
            value_code,
        ),
        (
            "/payload/authorization/validBefore",
            json!("0"),
            before_code,
        ),
        (
            "/payload/authorization/validBefore",
            json!(u128::MAX.to_string()),
            before_code,
        ),
        (
            "/payload/authorization/validBefore",
            json!("1795369138"),
            signature_code,
        ),
        (
            "/payload/authorization/validAfter",
            json!("1"),
            signature_code,
        ),
        (
            "/payload/authorization/validAfter",
            json!("1795369000"),
            "invalid_exact_evm_payload_authorization_valid_after",
        ),
        (
            "/payload/authorization/from",
            json!(terms().pay_to.to_string()),
            signature_code,
        ),
        (
            "/payload/authorization/nonce",
            json!(format!("0x{}", "0".repeat(64))),
            signature_code,
        ),
        ("/payload/signature", json!("0x"), signature_code),
        (
            "/payload/signature",
            json!(format!("0x{}1b", "f".repeat(128))),
            signature_code,
        ),
    ] {
        let mut json = recorded();
        *json.pointer_mut(pointer).expect(pointer) = changed.clone();
        let reject = check_json(json, RECORDED_AT).expect_err(pointer);
        assert_eq!(reject.code(), code, "{pointer} = {changed}");
    }
}

#[test]
fn what_doesnt_matter_may_differ() {
    let same = check_json(recorded(), RECORDED_AT)
        .expect("passes")
        .identity;
    let mut json = recorded();
    json["unknown"] = json!({"x": [1]});
    json["extensions"] = Value::Null;
    json["resource"] = Value::Null;
    json["accepted"]["extra"]["assetTransferMethod"] = json!("eip3009");
    for pointer in [
        "/payload/authorization/from",
        "/payload/authorization/nonce",
        "/payload/signature",
    ] {
        let text = json.pointer_mut(pointer).expect(pointer);
        *text = json!(text.as_str().expect("text").to_lowercase());
    }
    assert_eq!(
        check_json(json, RECORDED_AT).expect("passes").identity,
        same
    );
}

#[test]
fn time_has_exact_bounds() {
    let expires_s = 1_795_369_137;
    for (now_s, expected) in [
        (expires_s - 900, Ok(())),
        (expires_s - 901, Err(Reject::ExpiresTooLate)),
        (expires_s - 60, Ok(())),
        (expires_s - 59, Err(Reject::ExpiresTooSoon(60))),
        (expires_s + 1_000, Err(Reject::ExpiresTooSoon(60))),
    ] {
        let result = check_json(recorded(), Timestamp::from_secs(now_s)).map(|_| ());
        assert_eq!(result, expected, "at {}", now_s - expires_s);
    }
}

#[test]
fn a_facilitator_settles_until_shortly_before_the_end() {
    let payment = PresentedPayment::from_json(recorded()).expect("readable");
    let at = |left_s: i64| Timestamp::from_secs(1_795_369_137 - left_s);
    let verified = check_to_settle(&terms(), &payment, at(6)).expect("still valid");
    assert_eq!(
        (verified.valid_after_s, verified.valid_before_s),
        (0, 1_795_369_137)
    );
    assert_eq!(
        check_to_settle(&terms(), &payment, at(5)),
        Err(Reject::ExpiresTooSoon(6))
    );
}

#[test]
fn a_payment_for_one_chain_is_none_on_another() {
    let on_base = Terms {
        network: &BASE,
        asset: BASE_USDC,
        ..terms()
    };
    let signed = paid(&on_base);
    assert!(check(&on_base, &presented(&signed.header_v2), NOW).is_ok());
    // relabelled as Base Sepolia, the signature is over another domain
    let mut json: Value = header::decode(signed.header_v2.as_bytes()).expect("JSON");
    json["accepted"] = json!(terms().requirements_v2());
    assert_eq!(
        check_json(json, NOW).expect_err("refused").code(),
        "invalid_exact_evm_signature"
    );
    let mut json: Value = header::decode(signed.header_v1.as_bytes()).expect("JSON");
    assert_eq!(check_json(json.clone(), NOW), Err(Reject::Network));
    json["scheme"] = json!("upto");
    assert_eq!(check_json(json, NOW), Err(Reject::Scheme));
}

#[test]
fn what_cant_be_read_says_which_field() {
    for (pointer, changed, field) in [
        ("/x402Version", json!(3), "x402Version"),
        ("/x402Version", json!("2"), "x402Version"),
        ("/accepted", Value::Null, "payload"),
        ("/payload", json!({}), "payload"),
        (
            "/payload/authorization/from",
            json!("me"),
            "authorization.from",
        ),
        (
            "/payload/authorization/value",
            json!("-1"),
            "authorization.value",
        ),
        (
            "/payload/authorization/value",
            json!("+1"),
            "authorization.value",
        ),
        (
            "/payload/authorization/value",
            json!("9".repeat(40)),
            "authorization.value",
        ),
        (
            "/payload/authorization/nonce",
            json!("0x12"),
            "authorization.nonce",
        ),
        ("/payload/signature", json!("0".repeat(5_000)), "signature"),
    ] {
        let mut json = recorded();
        *json.pointer_mut(pointer).expect(pointer) = changed;
        let error = PresentedPayment::from_json(json).expect_err(pointer);
        assert_eq!(error.field, field);
    }
}

#[test]
fn a_client_pays_neither_above_its_limit_nor_for_unknown_terms() {
    let offer: wire_v2::PaymentRequired =
        header::decode(terms().header_v2("pay", &Default::default()).as_bytes()).expect("ours");
    let limit = Amount::from_atomic(9_999).expect("positive");
    assert_eq!(
        client::choose(&offer, limit).expect_err("too dear"),
        Refusal::AboveLimit {
            asset: Asset::USDC,
            price: terms().amount,
            limit
        }
    );
    for change in [
        |r: &mut wire_v2::PaymentRequirements| r.scheme = "upto".into(),
        |r: &mut wire_v2::PaymentRequirements| r.network = "eip155:1".into(),
        |r: &mut wire_v2::PaymentRequirements| r.asset = r.pay_to.clone(),
        |r: &mut wire_v2::PaymentRequirements| r.amount = "-5".into(),
        |r: &mut wire_v2::PaymentRequirements| r.pay_to = "merchant".into(),
        |r: &mut wire_v2::PaymentRequirements| r.extra = None,
    ] {
        let mut offer = offer.clone();
        change(&mut offer.accepts[0]);
        assert_eq!(
            client::choose(&offer, terms().amount).expect_err("unknown"),
            Refusal::NoKnownTerms { asset: Asset::USDC }
        );
    }
}

#[test]
fn a_payment_in_another_currency_is_known_by_its_signature_in_both_versions() {
    let euros = Terms {
        asset: BASE_SEPOLIA_EURC,
        ..terms()
    };
    let offer =
        header::decode(euros.header_v2("pay", &Default::default()).as_bytes()).expect("ours");
    let limit = euros.amount;
    assert_eq!(
        client::choose(&offer, limit).expect_err("no USDC"),
        Refusal::NoKnownTerms { asset: Asset::USDC }
    );
    let chosen = client::choose_in(&offer, Asset::EURC, limit).expect("payable");
    let signed = chosen.pay(&key(), [9; 32], NOW).expect("signs");
    for header in [&signed.header_v2, &signed.header_v1] {
        let payment = presented(header);
        let identity = payment.identity().expect("known");
        assert_eq!(identity.asset, BASE_SEPOLIA_EURC.address);
        assert!(check(&euros, &payment, NOW).is_ok());
        assert_eq!(
            check(&terms(), &payment, NOW),
            Err(Reject::Accepted { field: "asset" })
        );
    }
}

#[test]
fn nulls_are_read_and_never_sent() {
    let receipt: wire_v2::SettleResponse = serde_json::from_value(json!({
        "success": false, "transaction": null, "network": null, "payer": null, "errorReason": "new_code", "x": 1
    }))
    .expect("lenient");
    assert_eq!(receipt.error_reason.as_deref(), Some("new_code"));
    assert_eq!(
        json!(receipt),
        json!({"success": false, "transaction": "", "network": "", "errorReason": "new_code"})
    );
    let body: wire_v1::PaymentRequired = serde_json::from_value(json!({"x402Version": 1, "error": null, "accepts": [{
        "scheme": "exact", "network": "base", "maxAmountRequired": "1", "asset": "a", "payTo": "b", "resource": "c",
        "description": "", "mimeType": "", "outputSchema": null, "maxTimeoutSeconds": 60, "extra": null}]}))
    .expect("lenient");
    assert!(!json!(body).to_string().contains("null"));
}

proptest! {
    #[test]
    fn any_price_payee_and_nonce_can_be_paid_and_only_so(
        atomic in 1_i64..i64::MAX, pay_to in any::<[u8; 20]>(), nonce in any::<[u8; 32]>(), off_by in 1_u128..1_000,
    ) {
        let terms = Terms {
            amount: Amount::from_atomic(atomic).expect("positive"),
            pay_to: Address::from_bytes(pay_to),
            ..terms()
        };
        let offer = header::decode(terms.header_v2("pay", &Default::default()).as_bytes()).expect("ours");
        let chosen = client::choose(&offer, terms.amount).expect("payable");
        let signed = chosen.pay(&key(), nonce, NOW).expect("signs");
        let mut payment = presented(&signed.header_v2);
        let verified = check(&terms, &payment, NOW).expect("satisfies");
        prop_assert_eq!(verified.identity.nonce, nonce);
        payment.authorization.value = payment.authorization.value.wrapping_add(off_by);
        prop_assert!(check(&terms, &payment, NOW).is_err(), "another value passed");
        prop_assert_ne!(payment.identity().expect("known").payload_sha256, verified.identity.payload_sha256);
    }
}
