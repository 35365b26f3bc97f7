//! What answers mean, answer by answer; and the calls against a server of our own where a real facilitator can't be made to misbehave.

use std::net::SocketAddr;

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::any};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, UnparsedPublicKey,
    },
};
use serde_json::json;
use shared::{
    clock::ManualClock,
    money::Amount,
    time::Timestamp,
    x402::{
        client, header,
        network::{BASE, BASE_SEPOLIA, BASE_SEPOLIA_USDC},
        signature::PayerKey,
        terms::{Resource, Terms},
        wire_v2::PaymentRequired,
    },
};

use super::*;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const TX: &str = "0x9f2b0c6a7d7d4a3b1d1f6c3f4c2e0e0b9f2b0c6a7d7d4a3b1d1f6c3f4c2e0e0b";

fn terms() -> Terms {
    Terms {
        network: &BASE_SEPOLIA,
        asset: BASE_SEPOLIA_USDC,
        pay_to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
            .parse()
            .expect("an address"),
        amount: Amount::from_atomic(1_000).expect("an amount"),
        max_timeout_s: 300,
        resource: Resource {
            url: "https://market.example/api/v1/rentals".into(),
            description: "RAM".into(),
            mime_type: "application/json".into(),
        },
    }
}

fn request() -> SettleRequest {
    let terms = terms();
    let asked: PaymentRequired =
        header::decode(terms.header_v2("pay", &Default::default()).as_bytes())
            .expect("our own terms");
    let key = PayerKey::from_bytes(&[7; 32]).expect("a key");
    let signed = client::choose(&asked, terms.amount)
        .expect("payable")
        .pay(&key, [9; 32], START)
        .expect("signed");
    SettleRequest {
        reference: "pay_1".to_owned(),
        terms,
        payload: header::decode(signed.header_v2.as_bytes()).expect("our own payment"),
        version: 2,
        asked_before: false,
    }
}

fn payer() -> String {
    let request = request();
    let from = &request.payload["payload"]["authorization"]["from"];
    from.as_str().expect("a payer").to_owned()
}

fn said(status: u16, json: Value) -> Answer {
    Answer::Http {
        status,
        json: Some(json),
    }
}

fn is_unknown(outcome: &SettleOutcome) -> bool {
    matches!(outcome, SettleOutcome::Unknown { .. })
}

#[test]
fn money_has_moved_only_if_nothing_contradicts_it() {
    let request = request();
    let settled = |json: Value| judge::settled(&request, &said(200, json));
    let whole =
        json!({"success": true, "transaction": TX, "network": "eip155:84532", "payer": payer()});
    let with = |key: &str, value: Value| {
        let mut changed = whole.clone();
        changed[key] = value;
        changed
    };
    for good in [
        whole.clone(),
        with("network", json!("base-sepolia")),
        with("network", json!("")),
        with("network", Value::Null),
        with("payer", Value::Null),
        with("payer", json!("")),
        with("payer", json!(payer().to_lowercase())),
        with("of its own", json!({"deep": [1]})),
    ] {
        let outcome = settled(good.clone());
        let transaction = TX.to_owned();
        assert!(
            matches!(&outcome, SettleOutcome::Settled { transaction: t, .. } if *t == transaction),
            "{good}: {outcome:?}"
        );
    }
    for doubtful in [
        with("network", json!("eip155:8453")),
        with("payer", json!("0x90F79bf6EB2c4f870365E785982E1f101E93b906")),
        with("transaction", json!("")),
        with("transaction", json!("0x")),
        with("transaction", json!("pending")),
        with("transaction", json!(format!("0x{}", "a".repeat(200)))),
        with("success", json!("yes")),
        with("success", Value::Null),
        json!({}),
        json!([]),
        json!("settled"),
    ] {
        assert!(is_unknown(&settled(doubtful.clone())), "{doubtful}");
    }
}

#[test]
fn a_refusal_counts_only_if_it_came_before_anything_was_sent() {
    let refusal = |reason: &str| json!({"success": false, "errorReason": reason, "transaction": "", "network": ""});
    let mut request = request();
    // the same thing in the words of the specification, of three facilitators, and with every status they use
    for reason in [
        "insufficient_funds",
        "invalid_exact_evm_insufficient_balance",
        "invalid_exact_evm_signature",
        "invalid_exact_evm_payload_signature",
        "invalid_exact_evm_payload_authorization_value_mismatch",
        "invalid_exact_evm_payload_authorization_from_address_kyt",
        "unsupported_scheme",
        "accepted_requirements_mismatch",
    ] {
        for status in [200, 400, 402, 500] {
            let outcome = judge::settled(&request, &said(status, refusal(reason)));
            let reason = reason.to_owned();
            assert_eq!(outcome, SettleOutcome::Refused { reason });
        }
    }
    for open in [
        "settlement_pending",
        "duplicate_settlement",
        "unexpected_settle_error",
        "unexpected_error",
        "settle_exact_node_failure",
        "settle_exact_evm_transaction_confirmation_timed_out",
        "invalid_exact_evm_transaction_failed",
        "invalid_exact_evm_nonce_already_used",
        "invalid_exact_evm_payload_authorization_valid_before",
        "a_word_of_tomorrow",
        "",
    ] {
        assert!(
            is_unknown(&judge::settled(&request, &said(200, refusal(open)))),
            "{open}"
        );
    }
    let mut sent = refusal("insufficient_funds");
    sent["transaction"] = json!(TX);
    assert!(is_unknown(&judge::settled(&request, &said(200, sent))));
    // a repeat may be refused because the first one went through
    request.asked_before = true;
    let repeat = said(200, refusal("insufficient_funds"));
    assert!(is_unknown(&judge::settled(&request, &repeat)));
}

#[test]
fn an_answer_that_is_none_decides_nothing() {
    let request = request();
    for answer in [
        Answer::None("connection reset".into()),
        Answer::Http {
            status: 502,
            json: None,
        },
        Answer::Http {
            status: 200,
            json: None,
        },
        said(429, json!({"error": "slow down"})),
    ] {
        assert!(is_unknown(&judge::settled(&request, &answer)), "{answer:?}");
        let verified = judge::verified(&request, &answer);
        assert!(
            matches!(verified, VerifyOutcome::Unknown { .. }),
            "{verified:?}"
        );
        let supported = judge::supported(&BASE_SEPOLIA, &answer);
        assert!(
            matches!(supported, Support::Unknown { .. }),
            "{supported:?}"
        );
    }
}

#[test]
fn a_verification_counts_for_its_payer() {
    let request = request();
    let verified = |status, json| judge::verified(&request, &said(status, json));
    let valid = VerifyOutcome::Valid {
        payer: payer().parse().expect("an address"),
    };
    assert_eq!(verified(200, json!({"isValid": true})), valid);
    assert_eq!(
        verified(200, json!({"isValid": true, "payer": payer()})),
        valid
    );
    let other = json!({"isValid": true, "payer": "0x90F79bf6EB2c4f870365E785982E1f101E93b906"});
    assert!(matches!(
        verified(200, other),
        VerifyOutcome::Unknown { .. }
    ));
    // some say no with 200, some with 400 or 500
    for status in [200, 400, 500] {
        let no = json!({"isValid": false, "invalidReason": "unexpected_error", "payer": ""});
        let reason = "unexpected_error".to_owned();
        assert_eq!(verified(status, no), VerifyOutcome::Invalid { reason });
    }
    // whatever it says is kept short and printable
    let long = json!({"isValid": false, "invalidReason": format!("a\u{7}{}", "b".repeat(500))});
    match verified(200, long) {
        VerifyOutcome::Invalid { reason } => {
            assert_eq!(reason.chars().count(), 100);
            assert!(reason.starts_with("ab"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn support_is_read_in_both_versions() {
    let kinds = |kinds: Value| {
        said(
            200,
            json!({"kinds": kinds, "extensions": [], "signers": {}}),
        )
    };
    let v2 = json!([{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]);
    let v1 = json!([{"x402Version": 1, "scheme": "exact", "network": "base-sepolia"}]);
    for kind in [&v1, &v2] {
        let answer = kinds(kind.clone());
        assert_eq!(judge::supported(&BASE_SEPOLIA, &answer), Support::Yes);
        assert_eq!(judge::supported(&BASE, &answer), Support::No);
    }
    let upto = json!([{"x402Version": 2, "scheme": "upto", "network": "eip155:84532"}, 7, null]);
    assert_eq!(judge::supported(&BASE_SEPOLIA, &kinds(upto)), Support::No);
}

#[test]
fn a_key_signs_for_one_call() {
    let seed = [5; 32];
    let public = Ed25519KeyPair::from_seed_unchecked(&seed)
        .expect("a key")
        .public_key()
        .as_ref()
        .to_vec();
    let secret = STANDARD.encode([seed.to_vec(), public.clone()].concat());
    let key = CdpKey::new("organizations/o/apiKeys/k", &secret).expect("a key");
    let url: Url = "https://api.cdp.example/platform/v2/x402/settle"
        .parse()
        .expect("a URL");
    let token = key.token(&Method::POST, &url, START).expect("a token");
    let again = key.token(&Method::POST, &url, START).expect("a token");
    assert_ne!(token.expose(), again.expose(), "each has its own nonce");
    let parts: Vec<&str> = token.expose().split('.').collect();
    let read = |part: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
    };
    let (head, claims) = (read(parts[0]), read(parts[1]));
    assert_eq!(
        (&head["alg"], &head["typ"]),
        (&json!("EdDSA"), &json!("JWT"))
    );
    assert_eq!(head["kid"], "organizations/o/apiKeys/k");
    assert_eq!(
        claims["uris"],
        json!(["POST api.cdp.example/platform/v2/x402/settle"])
    );
    assert_eq!(claims["sub"], head["kid"]);
    let (from, until) = (claims["nbf"].as_i64(), claims["exp"].as_i64());
    assert_eq!((from, until), (Some(1_800_000_000), Some(1_800_000_120)));
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).expect("base64url");
    UnparsedPublicKey::new(&ED25519, public)
        .verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature)
        .expect("signed by the key");
    assert!(!format!("{key:?}").contains(&secret));
    let other_public = STANDARD.encode([5; 64]);
    for wrong in ["", "not base64", &STANDARD.encode([5; 32]), &other_public] {
        assert!(CdpKey::new("k", wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_ec_key_signs_as_es256_however_it_is_written() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
    let pkcs8 = pkcs8.expect("random numbers");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random);
    let public = pair.expect("a key").public_key().as_ref().to_vec();
    // the private key lies at a fixed place of what ring makes: both DER forms around it are built here
    let at = pkcs8
        .as_ref()
        .windows(2)
        .position(|two| two == [0x04, 0x20]);
    let private = &pkcs8.as_ref()[at.expect("an octet string of 32") + 2..][..32];
    let sec1 = [
        &hex::decode("30770201010420").expect("hex"),
        private,
        &hex::decode("a00a06082a8648ce3d030107a144034200").expect("hex"),
        &public,
    ]
    .concat();
    let pem = |kind: &str, der: &[u8], end: &str| {
        let text = STANDARD.encode(der);
        let (first, second) = text.split_at(64);
        format!("-----BEGIN {kind}-----{end}{first}{end}{second}{end}-----END {kind}-----{end}")
    };
    let url: Url = "https://api.cdp.example/x402/settle"
        .parse()
        .expect("a URL");
    for secret in [
        pem("EC PRIVATE KEY", &sec1, "\n"),
        pem("EC PRIVATE KEY", &sec1, "\\n"),
        pem("PRIVATE KEY", pkcs8.as_ref(), "\n"),
    ] {
        let key = CdpKey::new("k", &secret).expect("a key");
        let token = key.token(&Method::POST, &url, START).expect("a token");
        let (signed, signature) = token.expose().rsplit_once('.').expect("three parts");
        let head = signed.split('.').next().expect("a head");
        let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).expect("base64url"))
            .expect("JSON");
        assert_eq!(head["alg"], "ES256");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &public)
            .verify(signed.as_bytes(), &signature)
            .expect("signed by the key");
        assert!(!format!("{key:?}").contains(&STANDARD.encode(private)[..20]));
    }
    for wrong in [
        pem("EC PRIVATE KEY", &sec1[..100], "\n"),
        pem("EC PRIVATE KEY", pkcs8.as_ref(), "\n"),
        "-----BEGIN EC PRIVATE KEY-----".to_owned(),
    ] {
        assert!(CdpKey::new("k", &wrong).is_err(), "{wrong}");
    }
}

/// What the server got.
type Seen = Arc<std::sync::Mutex<Vec<(String, HeaderMap, Bytes)>>>;

async fn server(status: u16, body: &'static str) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let answer = move |State(seen): State<Seen>, uri: axum::http::Uri, headers, bytes| async move {
        seen.lock()
            .expect("no panic")
            .push((uri.path().to_owned(), headers, bytes));
        (
            axum::http::StatusCode::from_u16(status).expect("a status"),
            body,
        )
    };
    let router = Router::new()
        .route("/{*path}", any(answer))
        .with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, seen)
}

fn facilitator(address: SocketAddr, path: &str) -> HttpFacilitator {
    shared::tls::init();
    let clock = Arc::new(ManualClock::starting_at(START));
    HttpFacilitator::new(&format!("http://{address}{path}"), None, clock).expect("a facilitator")
}

#[tokio::test]
async fn a_payment_is_sent_as_it_came_with_terms_of_our_own() {
    let (address, seen) = server(
        200,
        r#"{"isValid":false,"invalidReason":"insufficient_funds"}"#,
    )
    .await;
    // with and without a slash at its end, and below a path
    for path in ["/x402", "/x402/"] {
        let outcome = facilitator(address, path).verify(&request()).await;
        let reason = "insufficient_funds".to_owned();
        assert_eq!(outcome, VerifyOutcome::Invalid { reason });
    }
    let mut old = request();
    old.version = 1;
    facilitator(address, "").settle(&old).await;
    let seen = seen.lock().expect("no panic");
    let (paths, sent): (Vec<&str>, Vec<Value>) = seen
        .iter()
        .map(|(path, _, body)| {
            (
                path.as_str(),
                serde_json::from_slice::<Value>(body).expect("JSON"),
            )
        })
        .unzip();
    assert_eq!(paths, ["/x402/verify", "/x402/verify", "/settle"]);
    let terms = terms();
    assert_eq!(sent[0]["x402Version"], 2);
    assert_eq!(sent[0]["paymentPayload"], request().payload);
    assert_eq!(
        sent[0]["paymentRequirements"],
        json!(terms.requirements_v2())
    );
    assert_eq!(sent[2]["x402Version"], 1);
    assert_eq!(
        sent[2]["paymentRequirements"],
        json!(terms.requirements_v1())
    );
}

#[tokio::test]
async fn an_endless_answer_and_a_dead_server_are_unknown() {
    static LONG: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| format!("{{\"success\":true{}}}", " ".repeat(BODY_BYTES_MAX)));
    let (address, _seen) = server(200, LONG.as_str()).await;
    let outcome = facilitator(address, "").settle(&request()).await;
    assert!(is_unknown(&outcome), "{outcome:?}");
    // a port that was just given back
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let outcome = facilitator(address, "").settle(&request()).await;
    assert!(is_unknown(&outcome), "{outcome:?}");
}
