//! What the official client signs is understood, and nothing else is believed.

use serde_json::{Value, json};

use super::*;

const WHOLE: &str = include_str!("../testdata/sign_in_whole.json");
const BARE: &str = include_str!("../testdata/sign_in_bare.json");
const WALLET: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

fn site() -> Site {
    Site {
        origin: "http://127.0.0.1:8402".into(),
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).expect("a moment")
}

fn noon() -> Timestamp {
    at("2027-01-15T08:00:30Z")
}

/// (claim, the text as the official client signed it)
fn recorded(file: &str) -> (Claim, String) {
    let recorded: Value = serde_json::from_str(file).expect("JSON");
    let claim = serde_json::from_value(recorded["claim"].clone()).expect("a claim");
    let text = recorded["text"].as_str().expect("a text").to_owned();
    (claim, text)
}

#[test]
fn what_the_official_client_signed_names_its_wallet() {
    for file in [WHOLE, BARE] {
        let (claim, text) = recorded(file);
        assert_eq!(claim.text(), Ok(text));
        let wallet = site().check(&claim, noon()).expect("it holds");
        assert_eq!(wallet.to_string(), WALLET);
        let again = Claim::from_header(claim.to_header().as_bytes());
        assert_eq!(again, Ok(claim));
    }
}

#[test]
fn a_challenge_of_ours_is_signed_and_believed_for_five_minutes() {
    let now = noon();
    let challenge = site().challenge("0123456789abcdef".into(), "/api/v1/rentals", now);
    assert_eq!(challenge.domain, "127.0.0.1:8402");
    let key = PayerKey::from_bytes(&[9; 32]).expect("a key");
    let claim = Claim::sign(challenge, "eip155:84532", &key).expect("signed");
    for age_ms in [0, 1, VALID_FOR_MS - 1] {
        let found = site().check(&claim, now.plus_ms(age_ms));
        assert_eq!(found, Ok(key.address()), "{age_ms}");
    }
    for age_ms in [-1, VALID_FOR_MS, VALID_FOR_MS + 1, i64::from(u32::MAX)] {
        let found = site().check(&claim, now.plus_ms(age_ms));
        assert_eq!(found, Err(Doubt::Time), "{age_ms}");
    }
}

/// Every field is held to what was asked or to the signature: changing any of them is noticed.
#[test]
fn no_field_can_be_changed() {
    let (claim, _) = recorded(WHOLE);
    let whole = serde_json::to_value(&claim).expect("JSON");
    let changes = [
        ("domain", json!("evil.example")),
        ("domain", json!("127.0.0.1")),
        ("uri", json!("http://evil.example/api/v1/rentals")),
        ("uri", json!("http://127.0.0.1:84020/api/v1/rentals")),
        ("uri", json!("http://127.0.0.1:8402@evil.example/")),
        ("uri", json!("http://127.0.0.1:8402/elsewhere")),
        ("statement", json!("Something else.")),
        ("statement", Value::Null),
        ("version", json!("2")),
        ("nonce", json!("0123456789abcdef0123456789abcdee")),
        ("issuedAt", json!("2027-01-15T08:00:01Z")),
        ("issuedAt", json!("yesterday")),
        ("expirationTime", json!("2027-01-15T08:04:59Z")),
        ("expirationTime", Value::Null),
        ("notBefore", json!("2027-01-15T08:10:00Z")),
        ("requestId", json!("1")),
        ("requestId", json!("1\nResources:")),
        ("resources", json!(["http://127.0.0.1:8402/"])),
        ("chainId", json!("eip155:8453")),
        ("chainId", json!("solana:1")),
        ("chainId", json!("eip155:")),
        ("type", json!("ed25519")),
        (
            "address",
            json!("0x1111111111111111111111111111111111111111"),
        ),
        ("address", json!(WALLET.to_lowercase())),
        ("address", json!("nobody")),
        ("signature", json!("0x")),
        ("signature", json!(format!("0x{}", "11".repeat(65)))),
    ];
    assert!(site().check(&claim, noon()).is_ok());
    for (field, value) in changes {
        let mut changed = whole.clone();
        changed[field] = value.clone();
        let claim: Claim = serde_json::from_value(changed).expect("still a claim");
        let found = site().check(&claim, noon());
        assert!(found.is_err(), "{field}: {value} gives {found:?}");
    }
}

/// The other form of the same signature, which the curve allows and tokens refuse.
#[test]
fn a_high_s_is_refused() {
    const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let (mut claim, _) = recorded(WHOLE);
    let digits = claim.signature.trim_start_matches("0x").to_owned();
    let number = |text: &str| -> Vec<u8> { hex::decode(text).expect("digits") };
    let (order, s) = (number(ORDER), number(&digits[64..128]));
    let mut borrow = 0;
    let mut high = vec![0; 32];
    for at in (0..32).rev() {
        let left = i16::from(order[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(left < 0);
        high[at] = u8::try_from(left.rem_euclid(256)).expect("a byte");
    }
    let v = if digits.ends_with("1b") { "1c" } else { "1b" };
    claim.signature = format!("0x{}{}{v}", &digits[..64], hex::encode(high));
    let found = site().check(&claim, noon());
    assert!(
        matches!(&found, Err(Doubt::Signature(why)) if why.contains("low-s")),
        "{found:?}"
    );
}
