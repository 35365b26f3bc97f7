//! Properties of what the coordinator reads from outside: it never panics, forgeries never hold, what is accepted is within
//! bounds and has one form.

mod elsewhere;
#[path = "../../../shared/src/tests/mangled.rs"]
mod mangled;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use ring::hmac;
use serde_json::{Value, json};
use shared::{
    id::{Ids, RentalId},
    sign::SigningKey,
    time::Timestamp,
    x402::header::{HEADER_BYTES_MAX, PAYMENT_SIGNATURE, X_PAYMENT},
};

use self::mangled::{cases, mangled, mangled_text};
use crate::{
    config::Config,
    context::{Actor, OpCtx, User},
    domain::{
        audit::checkpoint::Checkpoint,
        auth::{
            cookies,
            model::Email,
            token::{AccessTokens, RefreshToken},
        },
        kyc::webhook,
        payments::{idempotency::IdempotencyKey, x402_http},
    },
    http::{
        ClientIp, Page, Paging, credentials,
        extract::{JSON_DEPTH_MAX, parse_json},
        rental_token::RentalTokens,
    },
    keys::{Keys, TokenSecret},
    store::testing::TempDir,
    testing::{TestApp, market::Market},
};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn headers(name: &'static str, bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        headers.insert(name, value);
    }
    headers
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(items) => 1 + items.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A payment of each version, as its JSON.
fn payments() -> [Value; 2] {
    let v2: Value = serde_json::from_str(include_str!(
        "../../../shared/src/x402/testdata/payload_v2.json"
    ))
    .expect("JSON");
    let v1 = json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": v2["payload"]});
    [v1, v2]
}

/// Made once: keys are files that are synced.
static ACCESS: LazyLock<AccessTokens> = LazyLock::new(|| {
    let folder = TempDir::new();
    let config = Config {
        data_dir: folder.path().to_owned(),
        ..Config::default()
    };
    let keys = Keys::open(&config).expect("keys");
    AccessTokens::new(&keys, "https://m.example".to_owned(), 600)
});

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn only_our_own_access_tokens_hold(edits in mangled("x".repeat(400)), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let tokens = &*ACCESS;
        let ids = Ids::counting();
        let (token, _) = tokens.sign(ids.mint(), ids.mint(), NOW, NOW.plus_ms(600_000)).expect("signed");
        let token = token.expose().clone();
        prop_assert!(tokens.verify(&token, NOW).is_ok());
        let mut forged = token.clone().into_bytes();
        let at = at.index(forged.len());
        forged[at] = byte;
        let forged = String::from_utf8_lossy(&forged).into_owned();
        prop_assert_eq!(tokens.verify(&forged, NOW).is_ok(), forged == token);
        prop_assert!(tokens.verify(&String::from_utf8_lossy(&edits), NOW).is_err());
        let long = token + &"A".repeat(1 << 16);
        prop_assert!(tokens.verify(&long, NOW).is_err());
    }
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn refresh_tokens_have_one_text(text in prop_oneof![".{0,100}", mangled_text("A".repeat(43)), "[A-Za-z0-9_-]{43}"]) {
        if let Some(token) = RefreshToken::parse(&text) {
            prop_assert_eq!(token.expose(), &text);
            prop_assert_eq!(text.len(), 43);
            let shown = format!("{token:?}");
            prop_assert!(!shown.contains(&text));
        }
    }

    #[test]
    fn rental_tokens_are_not_forged(edits in mangled_text(RentalTokens::new(&TokenSecret::from_bytes([7; 32])).mint(Ids::counting().mint()).expose().clone())) {
        let tokens = RentalTokens::new(&TokenSecret::from_bytes([7; 32]));
        let rental: RentalId = Ids::counting().mint();
        let holds = tokens.rental_of(&edits);
        prop_assert_eq!(holds.is_some(), &edits == tokens.mint(rental).expose());
    }

    #[test]
    fn cookies_and_bearers_are_read_or_not(text in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300), mangled("a=b; __Host-at=token.x.y; c=\"d\""), mangled("Bearer rmt_x"),
    ]) {
        let cookie = headers("cookie", &text);
        if let Some(value) = cookies::read(&cookie, "__Host-at") {
            prop_assert!(!value.contains(';'));
        }
        let authorization = headers(header::AUTHORIZATION.as_str(), &text);
        if let Ok(Some(token)) = credentials::bearer(&authorization) {
            prop_assert!(token.len() <= 4096 && token.trim() == token);
        }
    }

    #[test]
    fn payment_headers_are_read_or_refused(
        which in 0..2_usize, edits in mangled(payments()[0].to_string()), edits_2 in mangled(payments()[1].to_string()),
        raw in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let json = if which == 0 { edits } else { edits_2 };
        for name in [PAYMENT_SIGNATURE, X_PAYMENT] {
            prop_assert!(x402_http::presented(&headers(name, &raw)).map_or(true, |found| found.is_none() || !raw.is_empty()));
            let outcome = x402_http::presented(&headers(name, BASE64.encode(&json).as_bytes()));
            if let Ok(Some(payment)) = outcome {
                // the parties and the amount are those of the text
                let said: Value = serde_json::from_slice(&json).expect("it was read");
                let from = said["payload"]["authorization"]["from"].as_str().expect("text").to_lowercase();
                prop_assert_eq!(payment.authorization.from.to_string().to_lowercase(), from);
            }
        }
        let long = vec![b'A'; HEADER_BYTES_MAX + 1];
        prop_assert!(x402_http::presented(&headers(X_PAYMENT, &long)).is_err());
    }

    #[test]
    fn cursors_are_ours_or_refused(text in prop_oneof![
        ".{0,100}", "[A-Za-z0-9_-]{0,60}",
        mangled_text(Page::of(vec![1, 2], &Paging::new(Some(1), None).expect("bounds"), |_| (5_i64, "nod_1")).expect("page").next_cursor.expect("more")),
    ]) {
        let paging = Paging::new(None, Some(text)).expect("bounds");
        if let Ok(Some(key)) = paging.after::<(i64, String)>() {
            let page = Page::of(vec![(), ()], &Paging::new(Some(1), None).expect("bounds"), |()| key.clone()).expect("page");
            let again = Paging::new(None, page.next_cursor).expect("bounds").after::<(i64, String)>();
            prop_assert_eq!(again.expect("ours"), Some(key));
        }
    }

    #[test]
    fn bodies_are_bounded_in_depth(text in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(prop::sample::select(b"[]{}\",:\\1".to_vec()), 0..200),
        (0..100_usize).prop_map(|deep| [b"[".repeat(deep), b"]".repeat(deep)].concat()),
        (0..60_usize).prop_map(|deep| [br#"{"a":"#.repeat(deep), b"1".to_vec(), b"}".repeat(deep)].concat()),
    ]) {
        if let Ok(value) = parse_json::<Value>(&text) {
            prop_assert!(depth(&value) <= JSON_DEPTH_MAX);
        }
    }

    #[test]
    fn addresses_have_one_form(text in prop_oneof![".{0,300}", mangled_text("Ada.Lovelace+x@mail.example.org")]) {
        if let Ok(email) = Email::parse(&text) {
            prop_assert!(email.as_str().len() <= 254);
            prop_assert!(!email.as_str().chars().any(|c| c.is_whitespace() || c.is_control()));
            prop_assert_eq!(Email::parse(email.as_str()).expect("its own form"), email);
        }
    }

    #[test]
    fn forwarded_addresses_are_believed_of_proxies_only(text in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200), mangled("203.0.113.9, 10.0.0.1, 2001:db8::1"),
    ]) {
        let mut request = Request::new(Body::empty());
        *request.headers_mut() = headers("x-forwarded-for", &text);
        let peer: SocketAddr = "198.51.100.7:1".parse().expect("an address");
        request.extensions_mut().insert(ConnectInfo(peer));
        let (parts, _) = request.into_parts();
        prop_assert_eq!(ClientIp::of(&parts, &["127.0.0.1".parse::<IpAddr>().expect("an address")]), ClientIp(peer.ip()));
        let seen = ClientIp::of(&parts, &[peer.ip()]);
        let said = String::from_utf8_lossy(&text);
        prop_assert!(seen.0 == peer.ip() || said.split(',').any(|hop| hop.trim().parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical() == seen.0)));
    }

    #[test]
    fn idempotency_keys_are_bounded(text in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), mangled("a-key-of-mine")]) {
        let user = User { id: Ids::counting().mint(), roles: BTreeSet::new(), session: Ids::counting().mint(), proven_at: NOW };
        let ctx = OpCtx::new(Actor::User(user), NOW, "test".to_owned(), Arc::new(Ids::counting()));
        if let Ok(key) = IdempotencyKey::read(&headers("idempotency-key", &text), &ctx, "rent", b"{}") {
            let sent = String::from_utf8(text).expect("text");
            let sent = sent.trim();
            prop_assert!((1..=128).contains(&sent.len()) && sent.bytes().all(|b| b.is_ascii_graphic()));
            prop_assert!(key.reference().ends_with(sent));
        }
    }

    #[test]
    fn webhooks_and_checkpoints_are_not_forged(
        body in mangled(r#"{"type":"verification.approved","data":{"reference":"kyc_00000000000000000000000000000001"}}"#),
        signature in mangled_text("v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="), time in mangled_text("1800000000"),
        line in mangled_text(r#"{"seq":1,"hash":"00","at":"2026-01-01T00:00:00Z","signature":"AA=="}"#),
    ) {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        let sent = webhook::Headers { id: "evt", timestamp: &time, signature: &signature };
        prop_assert!(webhook::verify(&key, &sent, &body, NOW, 300).is_err());
        if let Ok(Some(event)) = webhook::read("evt", &body) {
            prop_assert!(event.decision.reason.chars().count() <= 300);
        }
        let audit = SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().expect("random")).expect("a key");
        prop_assert!(Checkpoint::from_line(&line, &audit.public()).is_err());
    }
}

/// Orders with ports and variables, enrolments, offers, logins: whatever is sent, nothing is our fault.
#[tokio::test]
async fn no_body_is_our_fault() {
    let market =
        Market::open(TestApp::with(|config| config.auth.attempts_per_minute_ip = 60_000).await)
            .await;
    let mut order = market.order(600);
    order["env"] = json!({"A": "b"});
    order["ports"] = json!([{"container": 80, "protocol": "tcp"}]);
    let enrol = json!({"token": "x", "public_key": "A", "proof": "B", "name": "n", "protocol_version": 1, "agent_version": "1", "inventory": {}});
    let offer = json!({"node_id": market.node.id, "prices": {"ram_gib_hour": "0.01", "cpu_hour": "0"}, "max_ram_bytes": 5});
    let login = json!({"email": "ada@example.org", "password": "a long password"});
    let kyc = json!({"documents": [{"kind": "passport", "content": "AAAA"}]});
    let mut runner = TestRunner::new(cases(1));
    let times = if std::env::var_os("TEST_FULL").is_some_and(|value| value == "1") {
        5_000
    } else {
        150
    };
    let mut read = 0;
    for (path, body) in [
        ("rentals", &order),
        ("payments/quote", &order),
        ("nodes/enroll", &enrol),
        ("offers", &offer),
        ("auth/login", &login),
        ("kyc", &kyc),
    ] {
        let bodies = prop_oneof![
            mangled(body.to_string()),
            prop::collection::vec(any::<u8>(), 0..100)
        ];
        for _ in 0..times {
            let body = bodies.new_tree(&mut runner).expect("a body").current();
            let shown = String::from_utf8_lossy(&body).into_owned();
            let request = Request::post(format!("/api/v1/{path}"))
                .header("content-type", "application/json")
                .header("authorization", format!("Bearer {}", market.provider))
                .body(Body::from(body))
                .expect("a request");
            let answer = market.test.send(request).await;
            assert!(
                !answer.status.is_server_error(),
                "{path} {shown}: {answer:?}"
            );
            read += usize::from(answer.status != StatusCode::BAD_REQUEST);
        }
    }
    assert!(read > times, "only {read} bodies were understood at all");
}
